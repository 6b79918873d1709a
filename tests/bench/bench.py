"""The bench: portalock and its peers in one run, scenario by scenario, interleaved, medians of several rounds. Called by scripts/bench.

  bench.py BUILD-FOLDER RESULTS-FOLDER [--rounds N] [--seconds S] [--only SCENARIO]... [--quick] [--bare] [--musl LOCKCTL]
  bench.py --readme RESULTS-FOLDER        print the table for the README from a run's results.json

Writes results.json (every round), results.md and plots, and prints results.md's table of targets. servers.py starts what is measured, runs.py measures,
scenarios.py says what, targets.py judges, report.py and plots.py show.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import plots
import report
import runs
import scenarios
import targets
from servers import Servers


class Bench(runs.Runs):
    """The runs, and what was asked for."""

    def __init__(self, options, folder, servers):
        super().__init__(os.path.abspath(options.build), folder, servers, options.rounds, options.seconds)
        self.quick, self.bare = options.quick, options.bare
        self.lockctl_musl = os.path.abspath(options.musl) if options.musl else None

    def python_modules(self):
        """Those that are installed, if peers are wanted."""
        if self.bare:
            return []
        there = lambda m: subprocess.run([runs.SYSTEM_PYTHON, "-c", f"import {m}"], capture_output=True, check=False).returncode == 0
        return [m for m in ("portalocker", "filelock") if there(m)]


def measure(options):
    folder = tempfile.mkdtemp(prefix="portalock-bench-")
    os.chmod(folder, 0o755)  # PostgreSQL's user must get through
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        machine = report.machine(options.build)
        servers = Servers(os.path.abspath(options.build), folder, options.bare)
        stack.callback(servers.end)
        bench = Bench(options, folder, servers)
        took = {}
        for name in options.only or scenarios.ALL:
            print(f"bench: {name}", file=sys.stderr, flush=True)
            began = time.monotonic()
            scenarios.ALL[name](bench)
            took[name] = round(time.monotonic() - began, 1)
    return {"machine": machine, "rounds": options.rounds, "seconds": options.seconds, "missing": servers.missing, "took_s": took, "rows": bench.rows}


def write(folder, data):
    os.makedirs(folder, exist_ok=True)
    data["targets"] = targets.judge(data["rows"])
    data["plots"] = plots.draw(folder, data["rows"])
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as f:
        json.dump(data, f, indent=1)
        f.write("\n")
    with open(os.path.join(folder, "results.md"), "w", encoding="utf-8") as f:
        f.write(report.results(data))


def options_of(argv):
    p = argparse.ArgumentParser(prog="bench")
    p.add_argument("build")
    p.add_argument("results")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.7, help="of each round of each contender")
    p.add_argument("--only", action="append", choices=scenarios.ALL, metavar="SCENARIO", help=", ".join(scenarios.ALL))
    p.add_argument("--quick", action="store_true", help="2 short rounds, not the scale: to see that it works")
    p.add_argument("--bare", action="store_true", help="no peers but those that the bench brings")
    p.add_argument("--musl", help="the static lockctl")
    options = p.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds = min(options.rounds, 2), min(options.seconds, 0.1)
    return options


def main(argv):
    if argv[:1] == ["--readme"]:
        with open(os.path.join(argv[1], "results.json"), encoding="utf-8") as f:
            print(report.readme(json.load(f)), end="")
        return
    options = options_of(argv)
    data = measure(options)
    write(options.results, data)
    print(report.target_table(data["targets"]))
    print(f"{sum(data['took_s'].values()):.0f} s; all of it: {options.results}/results.md")


if __name__ == "__main__":
    main(sys.argv[1:])
