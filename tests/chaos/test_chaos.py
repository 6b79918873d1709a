"""Eight clients of all kinds lock a dozen files at random while the daemon and they themselves are killed, stopped and started again.

That nobody was let in beside another, that no update was lost and that tokens only grew is proved by other means than ours: client.c. Here is who is
hurt, how often, and that everything goes on afterwards and is free in the end. PORTALOCK_CHAOS_SECONDS: how long (60). Prints its seed;
PORTALOCK_CHAOS_SEED plays the same blows again (what they meet is up to the system).
"""

import collections
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "integration"))
from wire import Client, is_free  # noqa: E402

SECONDS = float(os.environ.get("PORTALOCK_CHAOS_SECONDS", "60"))
SLOW = float(os.environ.get("PORTALOCK_SLOW", "1"))
SEED = int(os.environ.get("PORTALOCK_CHAOS_SEED", time.time_ns() % 1_000_000_000))
PATIENCE = 40 * SLOW
CLIENT = os.environ["CHAOS_CLIENT"]
LOCKCTL = os.environ["LOCKCTL"]
FILES = 12


class Program:
    """A client that runs until it is told to end; killed, it is started again."""

    def __init__(self, name, argv):
        self.name, self.argv = name, argv
        self.totals = collections.Counter()
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.argv, str(random.randrange(1 << 30))], stdout=subprocess.PIPE, text=True)

    def target(self):
        return self.process.pid

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.start()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            out, _ = self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            with open(f"/proc/{self.process.pid}/stack", encoding="ascii") as f:
                where = f.read()
            self.process.kill()
            self.process.communicate()
            return f"{self.name} hangs: {where}"
        self.totals.update({k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", out)})
        # One that was started just now did not listen yet.
        return None if self.process.returncode in (0, -signal.SIGTERM) else f"{self.name} ended with {self.process.returncode}"


class Script:
    """`lockctl run` after `lockctl run`, as a script would."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        self.totals = collections.Counter()
        self.ending = False
        self.process = None
        self.unexpected = []
        self.rng = random.Random(random.randrange(1 << 30))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ending:
            i, exclusive = self.rng.randrange(FILES), self.rng.random() < 0.5
            how = self.rng.choice(([], [], ["-n"], ["-w", "0.02"], ["-w", "1"]))
            self.process = subprocess.Popen(
                [LOCKCTL, "run", *how, *([] if exclusive else ["-s"]), f"{self.folder}/{i}.lock", CLIENT, "inside", self.folder, str(i), "EX" if exclusive else "SH"],
                stderr=subprocess.PIPE,
                text=True,
            )
            _, said = self.process.communicate()
            code = self.process.returncode
            name = {0: "done", 1: "busy", -9: "killed", 137: "command_killed"}.get(code)
            if name is None:
                self.unexpected.append(f"{self.name}: exit {code}: {said}")
            else:
                self.totals[name] += 1

    def target(self):
        return self.process.pid if self.process is not None else None

    def kill(self):
        pid = self.target()
        if pid is not None:
            send(pid, signal.SIGKILL)

    def end(self):
        self.ending = True
        self.thread.join(PATIENCE)
        if self.thread.is_alive():
            self.process.kill()
            self.thread.join()
            return f"{self.name} hangs"
        return self.unexpected[0] if self.unexpected else None


def send(pid, number):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def child_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
            return int(f.read().split()[0])
    except (OSError, IndexError):
        return None


def daemon_pid(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.connect(path)
            return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError:
            return None


class Chaos(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="portalock-chaos-")
        self.socket = f"{self.folder}/socket"
        os.environ.update(
            PORTALOCK_SOCKET=self.socket,
            XDG_STATE_HOME=f"{self.folder}/state",
            # The leak sanitizer looks from a child of the process, which waits for it for ever if "command killed" hits that.
            ASAN_OPTIONS=f"{os.environ.get('ASAN_OPTIONS', '')}:detect_leaks=0:log_path={self.folder}/sanitizer",
            UBSAN_OPTIONS=f"log_path={self.folder}/sanitizer",
        )
        os.environ.pop("PORTALOCK_NO_SPAWN", None)
        os.environ.pop("PORTALOCK_SESSION", None)
        self.blows = collections.Counter()
        self.rng = random.Random(SEED)
        random.seed(SEED + 1)

    def tearDown(self):
        pid = daemon_pid(self.socket)
        if pid is not None:
            send(pid, signal.SIGTERM)
            self.eventually(lambda: daemon_pid(self.socket) is None, "the last daemon does not end")
        # Who is killed while it looks for leaks at its end leaves such a line.
        reports = "".join(self.text(n) for n in os.listdir(self.folder) if n.startswith("sanitizer"))
        reports = re.sub(r"==\d+==Unable to get registers from thread \d+\.\n", "", reports)
        shutil.rmtree(self.folder, ignore_errors=True)
        self.assertEqual(reports, "")

    def text(self, name):
        try:
            with open(f"{self.folder}/{name}", encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def eventually(self, holds, otherwise):
        deadline = time.monotonic() + PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), deadline, otherwise)
            time.sleep(0.02)

    def strike(self, clients):
        """One blow. Returns what is to be continued after it."""
        what = self.rng.choices(
            ("daemon killed", "daemon ended", "daemon stopped", "client killed", "client stopped", "lockctl killed", "command killed"), (6, 2, 3, 4, 3, 5, 2)
        )[0]
        stopped = None
        if what.startswith("daemon"):
            pid = daemon_pid(self.socket)
            signals = {"daemon killed": signal.SIGKILL, "daemon ended": signal.SIGTERM, "daemon stopped": signal.SIGSTOP}
            hit = pid is not None and send(pid, signals[what])
            stopped = pid if what == "daemon stopped" and hit else None
        else:
            client = self.rng.choice([c for c in clients if isinstance(c, Program) == what.startswith("client")])
            pid = client.target()
            if what == "command killed":
                pid = child_of(pid) if pid is not None else None
                hit = pid is not None and send(pid, signal.SIGKILL)
            elif what == "client stopped":
                hit = send(pid, signal.SIGSTOP)
                stopped = pid
            else:
                hit = pid is not None
                client.kill()
        self.blows[what if hit else "missed"] += 1
        return stopped

    def rage(self, clients):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(self.rng.uniform(0.02, 0.3))
            stopped = self.strike(clients)
            if stopped is not None:
                # Shorter and longer than the second after which the library gives up on a daemon that does not tell that the time is over.
                time.sleep(self.rng.choice((0.05, 0.3, 1.5)))
                send(stopped, signal.SIGCONT)
        time.sleep(1 * SLOW)  # calm: whoever was killed last comes through as well

    def check_journals(self):
        updates = 0
        for i in range(FILES):
            numbers = [int(line.split()[0]) for line in self.text(f"{i}.journal").splitlines()]
            self.assertEqual(numbers, list(range(1, len(numbers) + 1)), f"{i}.journal: an update was lost")
            updates += len(numbers)
        return updates

    def daemon_is_empty(self):
        with Client(self.socket) as c:
            gauges = c.call("stats")["gauges"]
            return gauges["locks"] == 0 and gauges["waiting"] == 0

    def test_nothing_is_lost_and_nobody_is_let_in_twice(self):
        print(f"seed {SEED}, {SECONDS:g} s", flush=True)
        raw = [sys.executable, os.path.join(HERE, "raw.py")]
        clients = [
            Program("library 1", [CLIENT, "library", self.folder, str(FILES)]),
            Program("library 2", [CLIENT, "library", self.folder, str(FILES)]),
            Script("lockctl 1", self.folder),
            Script("lockctl 2", self.folder),
            Program("descriptors 1", [*raw, "fd", self.folder, str(FILES)]),
            Program("descriptors 2", [*raw, "fd", self.folder, str(FILES)]),
            Program("paths", [*raw, "path", self.folder, str(FILES)]),
            Program("outsider", [CLIENT, "flock", self.folder, str(FILES)]),
        ]
        try:
            self.rage(clients)
        finally:
            complaints = [c.end() for c in clients]
        print("blows:", ", ".join(f"{what} {n}" for what, n in sorted(self.blows.items())))
        for c in clients:
            print(f"{c.name}:", ", ".join(f"{what} {n}" for what, n in c.totals.items() if n))
        self.assertEqual(self.text("wrong"), "")
        self.assertEqual([c for c in complaints if c is not None], [])
        self.eventually(lambda: all(is_free(f"{self.folder}/{i}.lock") for i in range(FILES)), "a file stays locked")
        if daemon_pid(self.socket) is not None:
            self.eventually(self.daemon_is_empty, "the daemon believes in a lock that nobody has")
        print(f"updates: {self.check_journals()}, none lost")
        for c in clients:
            self.assertGreater(sum(c.totals.values()), 0, f"{c.name} never came through")


if __name__ == "__main__":
    unittest.main()
