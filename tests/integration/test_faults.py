"""The daemon when the system fails it (fault/faults.h): killed at a bad moment, calls cut short, interrupted, refused, a clock that jumps."""

import os
import signal
import subprocess
import unittest

import wire
from wire import PATIENCE, Daemon

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"
FAULTY = os.environ.get("PORTALOCKD_FAULT", "portalockd_fault")


def faulty(faults, **more):
    """A daemon that runs with these faults."""
    env = dict(os.environ, PORTALOCK_FAULTS=faults, **more.pop("environment", {}))
    return Daemon(program=FAULTY, env=env, **more)


class KilledBeforeItsReply(unittest.TestCase):
    """Between flock and the reply: the kernel has granted what nobody was told of."""

    def setUp(self):
        self.dead = faulty("flock:kill@2")  # the first is the lock file beside the socket
        self.assertTrue(self.dead.ready, self.dead.log())
        self.addCleanup(self.dead.stop)
        self.path = self.dead.file()

    def granted_unheard(self, flags):
        """A description that bears the lock, though its request was never answered."""
        fd = self.dead.open()
        self.addCleanup(os.close, fd)
        with self.dead.connect() as c:
            id = c.start_lock(None, flags, fd)
            with self.assertRaises(EOFError):
                c.reply(id)
        self.assertEqual(self.dead.wait(), -signal.SIGKILL)
        return fd

    def next_daemon(self):
        daemon = Daemon(socket_path=self.dead.path)
        self.assertTrue(daemon.ready, daemon.log())
        self.addCleanup(lambda: self.assertEqual(daemon.stop(), 0))
        return daemon

    def client(self, daemon):
        c = daemon.connect()
        self.addCleanup(c.close)
        return c

    def check_sent_again(self, flags):
        fd = self.granted_unheard(flags)
        daemon = self.next_daemon()
        other, again = self.client(daemon), self.client(daemon)
        waits = other.start_lock(self.path, EX)
        other.ping()  # carried out: it waits, for somebody outside as far as this daemon knows
        lock = again.lock(None, flags, fd, reclaim={"waited_ms": 5}, timeout_ms=10000)
        self.assertLess(lock["waited_ms"], 1000)
        self.assertTrue(other.is_silent())
        again.unlock(lock["lock"])
        other.unlock(other.reply(waits)["lock"])

    def test_the_request_sent_again_is_granted_before_those_who_wait(self):
        self.check_sent_again(EX)

    def test_a_shared_one_too(self):
        self.check_sent_again(SH)

    def test_without_its_client_nothing_stalls(self):
        fd = self.granted_unheard(EX)
        daemon = self.next_daemon()
        other = self.client(daemon)
        waits = other.start_lock(self.path, EX)
        other.ping()
        self.assertTrue(other.is_silent())
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, fd)  # the description is gone, and its lock
        os.close(null)
        other.unlock(other.reply(waits)["lock"])


class Harness(unittest.TestCase):
    def test_a_fault_that_is_not_understood_ends_the_program(self):
        for faults in ("flok:kill", "flock:kil", "flock:kill@", "flock:kill@0", "flock:kill/2x", "flock"):
            done = subprocess.run([FAULTY, "--version"], env=dict(os.environ, PORTALOCK_FAULTS=faults), capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 64, faults)
            self.assertIn(b"PORTALOCK_FAULTS is wrong", done.stderr)


if __name__ == "__main__":
    unittest.main()
