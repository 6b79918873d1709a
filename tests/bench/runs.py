"""One measurement, and the rows that many of them become.

A row is {"scenario", "who", FIGURE: {"median", "min", "max", "rounds"}, ...}. `rounds` keeps each round's figure in order, so that ratios are taken between
measurements that stood beside each other in time.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

from servers import ALL_CPUS, ONE_CPU

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEM_PYTHON = "/usr/bin/python3"  # which has Debian's python3-portalocker and python3-filelock


@dataclass(frozen=True)
class Contender:
    who: str  # in the tables
    kind: str  # peers.h
    server: str  # servers.py


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


def figures_of(results):
    """The rounds of one contender, figure by figure; one that is missing somewhere is left out."""
    names = [n for n in results[0] if all(r.get(n) is not None for r in results)]  # results differ only where nothing was done
    return {name: spread([r[name] for r in results]) for name in names}


def kernel_counts(lines):
    """A lock is taken when its call ends, given up when its call begins."""
    locks = unlocks = held = not_released = 0
    pending = {}  # thread: what it waits for
    for line in lines:
        thread, call = line.split(None, 1)
        began = re.search(r"flock\(\d+, (\w+)", call)
        what = began.group(1) if began else pending.pop(thread, "")
        if began and "<unfinished" in call:
            pending[thread] = what
        if began and what == "LOCK_UN":
            unlocks += 1
            held = 0
        elif what == "LOCK_EX" and call.rstrip().endswith("= 0"):
            locks += 1
            not_released += held
            held = 1
    return {"kernel_locks": locks, "kernel_unlocks": unlocks, "not_released": not_released}


class Runs:
    def __init__(self, build, folder, servers, rounds, seconds):
        self.build, self.folder, self.servers, self.rounds, self.seconds = build, folder, servers, rounds, seconds
        self.locks = os.path.join(folder, "locks")
        os.mkdir(self.locks)
        self.rows = []
        self.lockctl = os.path.join(build, "client/lockctl")

    def program(self, name):
        return os.path.join(self.build, "tests/bench", name)

    def load(self, mode, contender, clients, depth=1, pinned=False, seconds=None):
        """One run of bench_load. The server's processor time is taken while the load is steady and all connections are open."""
        server, cpus = self.servers[contender.server], ONE_CPU if pinned else ALL_CPUS
        server.fresh()
        server.place(cpus)
        argv = [self.program("bench_load"), mode, contender.kind, server.address, self.locks, str(clients), str(depth), str(seconds or self.seconds)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus)) as p:
            if p.stdout.readline() != "ready\n":
                raise RuntimeError(f"{contender.who}: {' '.join(argv)} did not get ready")
            used, at = server.cpu_ns(), time.monotonic()
            p.stdin.write("\n")
            p.stdin.flush()
            result = json.loads(p.stdout.readline())
            after, took = server.cpu_ns(), time.monotonic() - at
            p.stdin.write("\n")
        if p.returncode != 0:
            raise RuntimeError(f"{contender.who}: {' '.join(argv)} failed")
        result["per_s"] = result["done"] / result["seconds"]
        if used is not None and result["done"] > 0:
            result["server_us"] = (after - used) / 1000 / took / result["per_s"]
        return result

    def interleave(self, scenario, measures, rounds=None, keep=None):
        """`measures`: {who: function}. Each in turn, so many times. `keep`: the figures that mean something here."""
        results = {}
        for _ in range(rounds or self.rounds):
            for who, measure in measures.items():
                results.setdefault(who, []).append(measure())
        for who, got in results.items():
            figures = figures_of(got)
            if figures:
                self.rows.append({"scenario": scenario, "who": who, **{k: v for k, v in figures.items() if keep is None or k in keep}})

    def scenario(self, scenario, mode, contenders, clients, depth=1, pinned=False, seconds=None, keep=None, rounds=None, more=None):
        """bench_load for each contender whose server is there. `more`: further {who: function}."""
        measures = {c.who: lambda c=c: self.load(mode, c, clients, depth, pinned, seconds) for c in contenders if c.server in self.servers}
        self.interleave(scenario, {**measures, **(more or {})}, rounds, keep)

    def redis_benchmark(self, clients, depth, refused=False):
        """
        Requests per second of SET key value NX, as Redis's own tool counts them: of keys so many that nearly all are taken, as locks are; or `refused`, the
        same key each time, which has been taken before.
        """
        server = self.servers["redis"]
        server.fresh()
        server.place(ALL_CPUS)
        count = max(20_000, int(400_000 * self.seconds))
        argv = ["redis-benchmark", "-s", server.address, "-c", str(clients), "-P", str(depth), "-n", str(count), "--csv"]
        argv += ["SET", "lock:000000000000", "owner-12345", "NX"] if refused else ["-r", "1000000000", "SET", "lock:__rand_int__", "owner-12345", "NX"]
        out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return {"requests_s": float(out.strip().splitlines()[-1].split('","')[1].strip('"'))}

    def command(self, argv, count, parallel=1):
        self.servers["portalock"].place(ALL_CPUS)
        env = {**os.environ, "PORTALOCK_SOCKET": self.servers["portalock"].address}
        run = [self.program("bench_commands"), str(count), str(parallel), *argv]
        return json.loads(subprocess.run(run, check=True, capture_output=True, env=env).stdout)

    def python(self, mode, module, seconds):
        argv = [SYSTEM_PYTHON, os.path.join(HERE, "pylocks.py"), mode, module, self.locks, str(seconds)]
        cpus = ONE_CPU if mode == "pairs" else ALL_CPUS
        out = subprocess.run(argv, check=True, capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus)).stdout
        result = json.loads(out)
        result["per_s"] = result["done"] / result["seconds"]
        return result

    def kernel_calls(self, contender):
        """
        Two clients that hand a lock over, the daemon's calls of flock(2) written down by strace: how often the kernel's lock was taken and given up, how
        often it was taken twice without being given up in between (must be 0). Nothing if the daemon may not be traced.
        """
        with tempfile.NamedTemporaryFile("r", dir=self.folder) as trace:
            argv = ["strace", "-f", "-q", "-e", "trace=flock", "-o", trace.name, "-p", str(self.servers[contender.server].process.pid)]
            with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as strace:
                while "TracerPid:\t0\n" in self.status(contender):
                    if strace.poll() is not None:
                        print("bench: strace may not trace the daemon", file=sys.stderr)
                        return {}
                    time.sleep(0.01)
                self.load("hand-over", contender, 2)
                strace.send_signal(signal.SIGINT)
            return kernel_counts(trace)

    def status(self, contender):
        with open(f"/proc/{self.servers[contender.server].process.pid}/status", encoding="ascii") as f:
            return f.read()
