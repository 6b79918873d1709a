"""The bench at scale: many locks, sessions and waiters; what one request costs then, what each of them takes of memory, what others feel.

  scale.py BUILD-FOLDER [--locks N] [--files N] [--sessions N] [--waiters N] [--only WORD]

bench.py calls run(). Descriptors are the end of what can be held on files of their own (RLIMIT_NOFILE; root raises it if it may), so 100,000 locks are
shared ones, several to a file. Server CPU is measured beside an empty daemon, turn by turn, and given as a ratio; memory is the process's anonymous pages.
"""

import argparse
import contextlib
import gc
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from servers import ALL_CPUS, ONE_CPU

PATH_BYTES = 60
LSLOCKS_MS = 83_000  # lslocks with 10,000 locks (util-linux 2.38), on the machine of docs/bench
PAIRS, ROUNDS = 400, 9  # lock+unlock pairs of one measurement; measurements of each daemon


class Connection:
    """A session. Requests are counted, not parsed: the client must cost little."""

    room = memoryview(bytearray(1 << 20))  # for all: recv(2) into a new object of that size would be most of what a list costs

    def __init__(self, path, concurrent=False):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.left = b""
        if concurrent:
            self.ask(request("hello", 0, {"concurrent": True}))

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        count = self.socket.recv_into(self.room)
        if count == 0:
            raise EOFError("the daemon closed the connection")
        return self.room[:count].tobytes()

    def line(self):
        parts = [self.left]
        while b"\n" not in parts[-1]:
            parts.append(self.receive())
        line, self.left = b"".join(parts).split(b"\n", 1)
        return line

    def ask(self, data):
        self.send(data)
        line = self.line()
        if b'"error"' in line:
            raise RuntimeError(line.decode())
        return line

    def skip(self, lines):
        """So many replies, none of which may be an error."""
        while lines > 0:
            data = self.left or self.receive()
            if b'"error"' in data:
                raise RuntimeError(data[:400].decode())
            self.left = b""
            lines -= data.count(b"\n")

    def all(self, requests, chunk=200):
        """Pipelined; every one must succeed."""
        for i in range(0, len(requests), chunk):
            part = requests[i : i + chunk]
            self.send(b"".join(part))
            self.skip(len(part))

    def close(self):
        """The connection, though a probe may have inherited the socket."""
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def request(method, id, params=None):
    message = {"jsonrpc": "2.0", "id": id, "method": method}
    if params is not None:
        message["params"] = params
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def lock(id, path, flags, **more):
    return request("lock", id, {"path": path, "flags": flags, **more})


class Daemon:
    def __init__(self, build, folder, name):
        self.folder = os.path.join(folder, name)
        os.makedirs(self.folder)
        self.path = os.path.join(self.folder, "socket")
        ready, report = os.pipe()
        self.process = subprocess.Popen(
            [os.path.join(build, "daemon/portalockd"), "--socket", self.path, "--state-dir", os.path.join(self.folder, "state"), "--log-waits", "2000000000",
             "--ready-fd", str(report)],
            stderr=subprocess.DEVNULL, pass_fds=[report],
        )  # fmt: skip
        os.close(report)
        with os.fdopen(ready) as f:
            if f.readline() != "READY\n":
                raise RuntimeError("portalockd did not start")

    def place(self, cpus):
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(task), cpus)

    def cpu_ns(self):
        with open(f"/proc/{self.process.pid}/schedstat", encoding="ascii") as f:
            return int(f.read().split()[0])

    def memory(self):
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"^Anonymous:\s+(\d+) kB", f.read(), re.M).group(1)) * 1024

    def gauges(self):
        c = Connection(self.path)
        found = json.loads(c.ask(request("stats", 1)))["result"]["gauges"]
        c.close()
        return found

    def await_gauge(self, name, value):
        while self.gauges()[name] != value:
            time.sleep(0.002)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Probe:
    """Another client, a process of its own: what its pairs of lock and unlock take while something goes on."""

    def __init__(self, daemon, path):
        self.out, ours = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.work(daemon, path, ours)
            finally:
                os._exit(1)
        os.close(ours)
        os.read(self.out, 1)

    @staticmethod
    def work(daemon, path, out):
        gc.disable()
        over = []
        signal.signal(signal.SIGTERM, lambda *_: over.append(1))
        c, times = Connection(daemon.path), []
        os.write(out, b"r")
        while not over:
            began = time.perf_counter()
            pair(c, path)
            times.append(time.perf_counter() - began)
        os.write(out, json.dumps(sorted(times)[-max(1, len(times) // 100) :]).encode())
        os._exit(0)

    def end(self):
        """The longest and the 99th percentile, in ms."""
        os.kill(self.pid, signal.SIGTERM)
        with os.fdopen(self.out) as f:
            times = json.loads(f.read())
        os.waitpid(self.pid, 0)
        return {"others_max_ms": times[-1] * 1000, "others_p99_ms": times[0] * 1000}


def pair(c, path):
    reply = c.ask(lock(1, path, ["LOCK_EX"]))
    c.ask(b'{"jsonrpc":"2.0","id":1,"method":"unlock","params":{"lock":%s}}\n' % re.search(rb'"lock":(\d+)', reply).group(1))


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


class Scale:
    def __init__(self, build, folder, sizes):
        self.build, self.sizes = build, sizes
        self.folder = tempfile.mkdtemp(prefix="scale-", dir=folder)
        self.locks = os.path.join(self.folder, "l")
        os.mkdir(self.locks)
        self.rows = []
        self.empty = Daemon(build, self.folder, "empty")
        self.number = 0

    def name(self, i):
        return os.path.join(self.locks, f"{i:06}".ljust(PATH_BYTES - len(self.locks) - 1, "x"))

    @contextlib.contextmanager
    def daemon(self):
        self.number += 1
        d = Daemon(self.build, self.folder, f"d{self.number}")
        try:
            yield d
        finally:
            d.end()

    def row(self, scenario, **figures):
        self.rows.append({"scenario": scenario, "who": "portalock", **figures})
        print(scenario, {k: v["median"] if isinstance(v, dict) else v for k, v in figures.items()}, file=sys.stderr)

    def cpu(self, daemon):
        """
        Server CPU of a pair in us, there and in the empty daemon; turn by turn, so that what disturbs one disturbs the other. All on one processor: on two a
        pair costs the server twice as much whenever it has to wake a client on the other one.
        """
        self.place(daemon, ONE_CPU)
        try:
            return self.cpu_there(daemon)
        finally:
            self.place(daemon, ALL_CPUS)

    def place(self, daemon, cpus):
        os.sched_setaffinity(0, cpus)
        for d in self.empty, daemon:
            d.place(cpus)

    def cpu_there(self, daemon):
        used = {}
        clients = [(d, Connection(d.path)) for d in (self.empty, daemon)]
        for _ in range(ROUNDS):
            for d, c in clients:
                for i in range(20):
                    pair(c, self.name(900_000))
                before = d.cpu_ns()
                for i in range(PAIRS):
                    pair(c, self.name(900_000))
                used.setdefault(d, []).append((d.cpu_ns() - before) / 1000 / PAIRS)
        for _, c in clients:
            c.close()
        ratio = statistics.median(used[daemon]) / statistics.median(used[self.empty])
        return {"server_us": spread(used[daemon]), "empty_us": spread(used[self.empty]), "of_empty": ratio}

    def hold(self, c, first, count, files, flags="LOCK_SH", names=0):
        """`count` locks, the i-th on file i % files (names from `names` on), with handle i // files."""
        c.all([lock(i, self.name(names + i % files), [flags], handle=i // files) for i in range(first, first + count)])

    def held(self):
        files = self.sizes["files"]
        self.held_at("own files", [n for n in (1000, 10_000, files) if n <= files], None)
        self.held_at("shared", [n for n in (1000, 10_000, 100_000) if n <= self.sizes["locks"]], min(files, 10_000))

    def held_at(self, what, counts, files):
        with self.daemon() as d:
            c = Connection(d.path)
            self.hold(c, 0, 1, files or 1 << 30)
            before, base = 1, d.memory()
            for n in counts:
                self.hold(c, before, n - before, files or 1 << 30)
                memory = {"bytes_each": (d.memory() - base) / (n - 1)} if n >= 10_000 else {}
                label = f"{n:,} locks held, {what}" if files is None else f"{n:,} locks held, on {min(n, files):,} files"
                self.row(label, **self.cpu(d), **memory)
                before = n
            c.close()

    def sessions(self):
        with self.daemon() as d:
            n, base = self.sizes["sessions"], d.memory()
            sessions = []
            for _ in range(n):
                sessions.append(Connection(d.path))
                sessions[-1].ask(request("hello", 1, {"client": "scale"}))
            time.sleep(0.1)
            self.row(f"{n:,} idle sessions", **self.cpu(d), bytes_each=(d.memory() - base) / n)
            for s in sessions:
                s.close()

    def waiters(self):
        for files in (1, min(10_000, self.sizes["files"])):
            self.waiters_on(files)

    def waiters_on(self, files):
        with self.daemon() as d:
            holder, waiters = Connection(d.path, True), Connection(d.path, True)
            self.hold(holder, 0, files, files, "LOCK_EX")
            self.queue(waiters, 0, files, files)
            d.await_gauge("waiting", files)
            base, n, before = d.memory(), self.sizes["waiters"], files
            for upto in [x for x in (10_000, n) if files < x <= n]:
                self.queue(waiters, before, upto - before, files)
                d.await_gauge("waiting", upto)
                memory = {"bytes_each": (d.memory() - base) / (upto - files)} if upto > 10_000 else {}
                self.row(f"{upto:,} waiters on {files:,} file{'s'[: files > 1]}", **self.cpu(d), **memory)
                before = upto
            waiters.close()
            holder.close()

    def queue(self, c, first, count, files, **more):
        for i in range(first, first + count, 200):
            part = range(i, min(i + 200, first + count))
            c.send(b"".join(lock(j, self.name(j % files), ["LOCK_EX"], handle=j // files, **more) for j in part))

    def felt(self, scenario, d, what, **more):
        """Do it while somebody else works."""
        probe = Probe(d, self.name(900_001))
        time.sleep(0.3)
        began = time.perf_counter()
        figures = what() or {}
        took = (time.perf_counter() - began) * 1000
        time.sleep(0.05)
        self.row(scenario, wall_ms=took, **figures, **probe.end(), **more)

    def list(self):
        n, files = self.sizes["locks"], min(10_000, self.sizes["files"])
        with self.daemon() as d:
            c, reader = Connection(d.path), Connection(d.path)
            self.hold(c, 0, n, files)
            self.felt("nothing, for comparison", d, lambda: time.sleep(1))
            for _ in range(2):  # the paths are looked up when first shown
                self.felt(f"list of {n:,} locks, paged", d, lambda: self.pages(d, reader))
            self.list_by_tool(d)
            c.close()

    @staticmethod
    def pages(d, c):
        """Pages as long as they are when nobody asks for longer ones, as lockctl's: those cost the lister no less, and others more."""
        params, pages, longest, size, before = {"outside": False}, 0, 0, 0, d.cpu_ns()
        while True:
            began = time.perf_counter()
            line = c.ask(request("list", 1, params))
            longest = max(longest, time.perf_counter() - began)
            pages += 1
            size += len(line)
            following = re.search(rb'"next":"([^"]*)"', line[-200:])
            if following is None:
                return {"pages": pages, "page_max_ms": longest * 1000, "megabytes": size / 1e6, "server_ms": (d.cpu_ns() - before) / 1e6}
            params["after"] = following.group(1).decode()

    def list_by_tool(self, loaded):
        lockctl = os.path.join(self.build, "client/lockctl")
        with self.daemon() as d:
            c = Connection(d.path)
            n = min(10_000, self.sizes["files"])
            self.hold(c, 0, n, n, "LOCK_EX", names=200_000)
            times = []
            for _ in range(5):
                began = time.perf_counter()
                out = subprocess.run([lockctl, "list"], env={**os.environ, "PORTALOCK_SOCKET": d.path}, check=True, capture_output=True).stdout
                times.append((time.perf_counter() - began) * 1000)
            if out.count(b"\n") < n:
                raise RuntimeError("lockctl list shows too little")
            self.row(f"lockctl list of {n:,} locks", wall_ms=spread(times), of_lslocks=LSLOCKS_MS / statistics.median(times))
            c.close()

    def death(self):
        n = min(10_000, self.sizes["files"])
        for what, files in (("on own files", n), ("on one file", 1)):
            with self.daemon() as d:
                c = Connection(d.path)
                self.hold(c, 0, n, files)
                self.felt(f"a session with {n:,} locks {what} dies", d, lambda: self.until_free(d, c))

    @staticmethod
    def until_free(d, c):
        before = d.cpu_ns()
        c.close()
        while d.gauges()["locks"] > 1:  # the probe has one now and then
            pass
        return {"server_ms": (d.cpu_ns() - before) / 1e6}

    def timeouts(self):
        for files in (1, min(10_000, self.sizes["files"])):
            with self.daemon() as d:
                n = 10_000
                holder, waiters = Connection(d.path, True), Connection(d.path, True)
                self.hold(holder, 0, files, files, "LOCK_EX")
                until = time.monotonic() + 3

                def due():
                    """All within a millisecond or two."""
                    for i in range(0, n, 100):
                        left = int((until - time.monotonic()) * 1000)
                        waiters.send(b"".join(lock(j, self.name(j % files), ["LOCK_EX"], handle=j // files, timeout_ms=left) for j in range(i, i + 100)))
                    lines = 0
                    first = waiters.receive()
                    began, before, lines = time.perf_counter(), d.cpu_ns(), first.count(b"\n")
                    while lines < n:
                        lines += waiters.receive().count(b"\n")
                    return {"answered_within_ms": (time.perf_counter() - began) * 1000, "server_ms": (d.cpu_ns() - before) / 1e6}

                self.felt(f"{n:,} timeouts due at once, {files:,} file{'s'[: files > 1]}", d, due)
                holder.close()
                waiters.close()

    def end(self):
        self.empty.end()
        shutil.rmtree(self.folder, ignore_errors=True)


SCENARIOS = ("held", "sessions", "waiters", "list", "death", "timeouts")


def descriptors():
    """As many as may be had."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for want in (250_000, hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (want, max(want, hard)))
            return want
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def run(build, folder=None, only="", **sizes):
    most = descriptors()
    sizes = {"files": min(100_000, most - 500), "locks": 100_000, "waiters": 100_000, "sessions": min(10_000, most - 500), **{k: v for k, v in sizes.items() if v}}
    print(f"scale: {most:,} descriptors, so {sizes['files']:,} files at most", file=sys.stderr)
    scale = Scale(os.path.abspath(build), folder or tempfile.gettempdir(), sizes)
    try:
        for name in SCENARIOS:
            if only in name:
                getattr(scale, name)()
    finally:
        scale.end()
    return scale.rows


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("--only", default="", help=" ".join(SCENARIOS))
    for size in ("locks", "files", "sessions", "waiters"):
        p.add_argument(f"--{size}", type=int)
    a = vars(p.parse_args())
    print(json.dumps(run(a.pop("build"), **a), indent=1))


if __name__ == "__main__":
    main()
