"""The bench: portalock and its peers in one run, scenario by scenario, interleaved, medians of several rounds. Called by scripts/bench.

  bench.py BUILD-FOLDER RESULTS-FOLDER [--rounds N] [--seconds S]

Prints a table of medians (min-max) and of ratios, and writes it as results.json and results.md. `same CPU`: clients and server on one CPU (taskset), which
is what one request costs in all; else the scheduler places them.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

PG = "/usr/lib/postgresql/15/bin"


class Server:
    """A server on a Unix socket in a folder of its own; ended by its pid."""

    def __init__(self, name, argv, address, env=None, user=None, ready=None):
        self.name, self.address = name, address
        self.process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})}, user=user)
        deadline = time.monotonic() + 20
        while not os.path.exists(ready or address):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"{name} did not start")
            time.sleep(0.01)

    def pids(self):
        """It and its children (PostgreSQL has one for each connection)."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            return [self.process.pid, *map(int, f.read().split())]

    def place(self, cpus):
        for pid in self.pids():
            os.sched_setaffinity(pid, cpus)

    def cpu_ns(self):
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                        total += int(f.read().split()[0])
        return total

    def end(self):
        self.process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
        self.process.wait(20)


class Bench:
    def __init__(self, build, rounds, seconds):
        self.build, self.rounds, self.seconds = build, rounds, seconds
        self.folder = tempfile.mkdtemp(prefix="portalock-bench-")
        os.chmod(self.folder, 0o755)
        self.locks = os.path.join(self.folder, "locks")
        os.mkdir(self.locks)
        self.rows = []
        self.servers = {}

    def start(self):
        f = self.folder
        server = os.path.join(self.build, "tests/bench/bench_server")
        for name in ("echo", "roofline"):
            self.servers[name] = Server(name, [server, name, f"{f}/{name}"], f"{f}/{name}")
        self.servers["portalock"] = Server(
            "portalock", [os.path.join(self.build, "daemon/portalockd"), "--socket", f"{f}/portalock/socket", "--state-dir", f"{f}/state"], f"{f}/portalock/socket"
        )
        self.servers["redis"] = Server("redis", ["redis-server", "--port", "0", "--unixsocket", f"{f}/redis", "--save", "", "--appendonly", "no", "--dir", f], f"{f}/redis")
        self.start_postgres()

    def start_postgres(self):
        data = os.path.join(self.folder, "postgres")
        os.mkdir(data, 0o700)
        shutil.chown(data, "postgres")
        run = {"check": True, "stdout": subprocess.DEVNULL, "user": "postgres", "cwd": data}
        subprocess.run([f"{PG}/initdb", "-D", f"{data}/db", "-A", "trust", "-N"], **run)
        self.servers["postgres"] = Server(
            "postgres",
            [f"{PG}/postgres", "-D", f"{data}/db", "-k", data, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "fsync=off"],
            f"host={data} user=postgres dbname=postgres",
            user="postgres",
            ready=f"{data}/.s.PGSQL.5432.lock",
        )
        time.sleep(1)

    def end(self):
        for s in self.servers.values():
            s.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def load(self, what, kind, server, clients, depth, pinned):
        s = self.servers[server]
        cpus = {0} if pinned else {0, 1}
        s.place(cpus)
        argv = [os.path.join(self.build, "tests/bench/bench_load"), what, kind, s.address, self.locks, str(clients), str(depth), str(self.seconds)]
        before = s.cpu_ns()
        done = subprocess.run(argv, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cpus))
        result = json.loads(done.stdout)
        result["server_us"] = (s.cpu_ns() - before) / 1000 / max(1, result["done"]) if server != "postgres" else None
        return result

    def scenario(self, title, what, contenders, clients, depth, pinned):
        """Each of `contenders` (label, kind, server) in turn, `rounds` times."""
        if what != "pairs" and any(kind == "redis-list" for _, kind, _ in contenders):
            subprocess.run(["redis-cli", "-s", self.servers["redis"].address, "del", "list:shared.lock"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["redis-cli", "-s", self.servers["redis"].address, "lpush", "list:shared.lock", "1"], check=True, stdout=subprocess.DEVNULL)
        results = {label: [] for label, _, _ in contenders}
        for _ in range(self.rounds):
            for label, kind, server in contenders:
                results[label].append(self.load(what, kind, server, clients, depth, pinned))
        for label, got in results.items():
            row = {"scenario": title, "who": label}
            for figure in ("per_s", "p50_us", "p99_us", "p999_us", "server_us", "jain"):
                values = [g[figure] for g in got if g[figure] is not None]
                row[figure] = {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None
            self.rows.append(row)

    def commands(self):
        """Whole commands, one after the other, and 50 at a time on one lock."""
        lockctl = os.path.join(self.build, "client/lockctl")
        env = {**os.environ, "PORTALOCK_SOCKET": self.servers["portalock"].address}
        one = {"true": ["true"], "flock F true": ["flock", f"{self.locks}/c", "true"], "lockctl run F true": [lockctl, "run", f"{self.locks}/c", "true"]}
        many = {
            "flock 50 x 20": f"for i in $(seq 50); do (for j in $(seq 20); do flock {self.locks}/m true; done) & done; wait",
            "lockctl 50 x 20": f"for i in $(seq 50); do (for j in $(seq 20); do {lockctl} run {self.locks}/m true; done) & done; wait",
        }
        times = {}
        for _ in range(self.rounds):
            for name, argv in one.items():
                began = time.monotonic()
                for _ in range(100):
                    subprocess.run(argv, env=env, check=True)
                times.setdefault(name, []).append((time.monotonic() - began) * 10)
            for name, script in many.items():
                began = time.monotonic()
                subprocess.run(["sh", "-c", script], env=env, check=True)
                times.setdefault(name, []).append((time.monotonic() - began) * 1000)
        for name, values in times.items():
            self.rows.append({"scenario": "whole commands", "who": name, "wall_ms": {"median": statistics.median(values), "min": min(values), "max": max(values)}})

    def run(self):
        ours = [("portalock by path", "portalock", "portalock"), ("portalock by descriptor", "portalock-fd", "portalock")]
        bare = [("echo", "echo", "echo"), ("roofline", "portalock", "roofline")]
        redis, postgres = ("Redis SET NX", "redis", "redis"), ("PostgreSQL", "postgres", "postgres")
        self.scenario("pairs, 1 client, same CPU", "pairs", [*bare, *ours, redis, postgres], 1, 1, True)
        for clients in (8, 64):
            self.scenario(f"pairs, {clients} clients", "pairs", [*bare, *ours, redis, postgres], clients, 1, False)
        self.scenario("pairs, 8 clients, 16 pipelined", "pairs", [*bare, *ours, redis], 8, 16, False)
        queue = [("roofline", "portalock", "roofline"), ("portalock by path", "portalock", "portalock"), ("Redis BLPOP", "redis-list", "redis"), postgres]
        self.scenario("hand-over, 2 clients, same CPU", "hand-over", queue, 2, 1, True)
        for clients in (8, 64):
            self.scenario(f"hand-over, {clients} clients", "hand-over", queue, clients, 1, False)
        self.scenario("8 contenders that hold 1 ms", "same", [*queue, redis], 8, 1, False)
        self.commands()


def figure(row, name, digits=1):
    v = row.get(name)
    return "" if v is None else f"{v['median']:,.{digits}f} ({v['min']:,.{digits}f}-{v['max']:,.{digits}f})"


def table(rows):
    lines = ["| scenario | who | per second | p50 us | p99 us | server us | of the roofline | of Redis |", "|---|---|---|---|---|---|---|---|"]
    for r in rows:
        if "wall_ms" in r:
            lines.append(f"| {r['scenario']} | {r['who']} | {figure(r, 'wall_ms', 2)} ms | | | | | |")
            continue
        same = [x for x in rows if x["scenario"] == r["scenario"]]
        by = {x["who"].split()[0]: x["per_s"]["median"] for x in same}
        ratio = lambda of: f"{r['per_s']['median'] / by[of]:.2f}" if of in by else ""
        lines.append(
            f"| {r['scenario']} | {r['who']} | {figure(r, 'per_s', 0)} | {figure(r, 'p50_us')} | {figure(r, 'p99_us')} | {figure(r, 'server_us', 2)} | {ratio('roofline')} | {ratio('Redis')} |"
        )
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("results")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    a = p.parse_args()
    bench = Bench(os.path.abspath(a.build), a.rounds, a.seconds)
    try:
        bench.start()
        bench.run()
    finally:
        bench.end()
    text = table(bench.rows)
    os.makedirs(a.results, exist_ok=True)
    with open(os.path.join(a.results, "results.json"), "w", encoding="utf-8") as f:
        json.dump({"machine": f"{os.cpu_count()} CPUs, {os.uname().sysname} {os.uname().release}", "rows": bench.rows}, f, indent=1)
    with open(os.path.join(a.results, "results.md"), "w", encoding="utf-8") as f:
        f.write(text)
    print(text)


main()
