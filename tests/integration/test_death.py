"""Clients that are killed, and daemons that begin anew."""

import os
import random
import subprocess
import sys
import unittest

from wire import PATIENCE, Daemon, DaemonTest

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"


class Death(DaemonTest):
    CLIENT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from wire import Client
c = Client(sys.argv[2])
fd = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT, 0o666)
if sys.argv[4] == "fd":
    c.lock(None, "LOCK_EX", fd)
else:
    c.lock(sys.argv[3], "LOCK_EX")
print("held", flush=True)
sys.stdin.read()
"""

    def holder(self, how):
        p = subprocess.Popen(
            [sys.executable, "-c", self.CLIENT, os.path.dirname(os.path.abspath(__file__)), self.daemon.path, self.path, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(p.stdout.readline(), "held\n")
        return p

    def test_a_killed_client_gives_way_at_once(self):
        for how in ("fd", "path"):
            p = self.holder(how)
            c = self.client()
            self.assertEqual(c.busy(self.path, EX_NB).data["holders"][0]["pid"], p.pid)
            id = c.start_lock(self.path, EX)
            self.await_waiting(self.client(), self.path, 1)
            p.kill()
            p.wait(PATIENCE)
            c.unlock(c.reply(id)["lock"])
            p.stdin.close()
            p.stdout.close()

    def test_500_clients_killed_at_any_moment_leave_nothing(self):
        rng = random.Random(500)
        files = [self.daemon.file(f"f{i}") for i in range(3)]
        for _ in range(500):
            c = self.daemon.connect()
            for _ in range(rng.randrange(4)):
                c.start_lock(rng.choice(files), rng.choice((EX, SH, EX_NB)), handle=rng.randrange(2))
            if rng.random() < 0.5:
                c.ping()
            c.close()
        c = self.client()
        for f in files:
            c.lock(f, EX, timeout_ms=10000)
            self.assertTrue(c.call("unlock", {"path": f})["released"])
        gauges = c.call("stats")["gauges"]
        self.assertEqual((gauges["locks"], gauges["waiting"], gauges["files"], gauges["descriptors"]), (0, 0, 0, 0))


class Restart(unittest.TestCase):
    def test_ids_and_tokens_from_before_name_nobody_after(self):
        seen = []
        for _ in range(3):
            daemon = Daemon()
            with daemon.connect() as c:
                seen.append(c.call("hello", {"protocol": 1})["session"])
                r = c.lock(daemon.file(), EX)
                seen += [r["lock"], r["token"]]
                self.assertLess(max(seen), 2**53)
            daemon.stop()
        self.assertEqual(seen[0::3], sorted(set(seen[0::3])))
        self.assertEqual(seen[2::3], sorted(set(seen[2::3])))
        self.assertEqual(len(set(seen)), len(seen))


if __name__ == "__main__":
    unittest.main()
