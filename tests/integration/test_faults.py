"""The daemon when the system fails it (fault/faults.h): killed at a bad moment, calls cut short, interrupted, refused, a clock that jumps."""

import os
import resource
import signal
import subprocess
import sys
import time
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


class Whole(unittest.TestCase):
    """Tests of the daemon's work, as they are, with faults that nobody must notice."""

    def check(self, faults, *names):
        folder = os.path.dirname(os.path.abspath(__file__))
        env = dict(os.environ, PORTALOCKD=FAULTY, PORTALOCK_FAULTS=faults)
        for name in names:
            done = subprocess.run([sys.executable, os.path.join(folder, name + ".py")], env=env, cwd=folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"{name} with {faults}:\n{done.stderr}")

    def test_every_read_and_write_moves_one_byte(self):
        self.check("send:short;recvmsg:short", "test_locking", "test_descriptors", "test_protocol")

    def test_every_call_is_interrupted_again_and_again(self):
        interrupted = ("flock", "recvmsg", "send", "accept4", "open", "openat", "read")
        self.check(";".join(f"{call}:eintr/2" for call in interrupted), "test_locking", "test_descriptors", "test_protocol")

    def test_connections_that_cannot_be_accepted_are_accepted_later(self):
        self.check("accept4:emfile/3;accept4:enfile/5;accept4:econnaborted/4", "test_locking", "test_descriptors")

    def test_the_clock_jumps_to_and_fro(self):
        self.check("uv_gettimeofday:back/3;uv_gettimeofday:forward/5", "test_locking", "test_descriptors", "test_death")


class Faulty(unittest.TestCase):
    """A daemon with faults of its own for each test; it must end well."""

    def start(self, faults):
        self.daemon = faulty(faults)
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.addCleanup(lambda daemon=self.daemon: self.assertEqual(daemon.stop(), 0))
        self.client = self.daemon.connect()
        self.addCleanup(self.client.close)

    def ask_with_descriptors(self, count, prefix="own"):
        """As many requests, each with a file of its own, sent one after the other without waiting; the paths by the requests' ids."""
        paths = {}
        for i in range(count):
            name = f"{prefix}{i}"
            fd = self.daemon.open(name)
            paths[self.client.start_lock(None, EX, fd)] = self.daemon.file(name)
            os.close(fd)
        return paths

    def sort(self, paths):
        """How many were granted their own file, and how many refused for want of descriptors. There is no third."""
        granted = refused = 0
        for id, path in paths.items():
            try:
                self.assertEqual(self.client.reply(id)["path"], path)
                granted += 1
            except wire.Refused as e:
                self.assertEqual((e.code, e.data["limit"]), (8, "descriptors"))
                self.assertTrue(wire.is_free(path))
                refused += 1
        return granted, refused


class Descriptors(Faulty):
    def test_one_that_was_lost_on_the_way_is_nobody_elses(self):
        self.start("recvmsg:trunc/3")  # every second one may be that which finds nothing more
        granted, refused = self.sort(self.ask_with_descriptors(60))
        self.assertGreater(granted, 0)
        self.assertGreater(refused, 0)

    def test_those_that_the_kernel_cannot_hand_over_are_nobody_elses(self):
        """The true thing: no number is free when they arrive, though the daemon believes so."""
        self.start("")
        pid = self.daemon.process.pid
        self.client.ping()
        before = self.sort(self.ask_with_descriptors(3, "before"))
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        highest = max(int(fd) for fd in os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        squeezed = self.sort(self.ask_with_descriptors(20))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        after = {self.client.start_lock(None, SH, fd := self.daemon.open("after")): self.daemon.file("after")}
        os.close(fd)
        self.assertEqual(before, (3, 0))
        self.assertGreater(squeezed[1], 0)
        self.assertEqual(self.sort(after), (1, 0))

    def test_a_path_that_cannot_be_opened_for_want_of_descriptors(self):
        for error in ("emfile", "enfile"):
            self.start(f"open:{error}/7")
            granted = refused = 0
            for i in range(30):
                path = self.daemon.file(f"{i}")
                try:
                    self.client.lock(path, EX)
                    granted += 1
                except wire.Refused as e:
                    self.assertEqual((e.code, e.data["limit"]), (8, "descriptors"))
                    self.client.lock(path, EX)  # the next attempt finds one
                    refused += 1
            self.assertGreater(granted, 0)
            self.assertGreater(refused, 0)
            self.assertEqual(self.client.call("stats")["gauges"]["locks"], 30)


class Clock(Faulty):
    def check(self, faults):
        self.start(faults)
        path, other = self.daemon.file("file"), self.daemon.connect()
        self.addCleanup(other.close)
        tokens = []
        for _ in range(40):
            r = self.client.lock(path, EX)
            tokens.append(r["token"])
            self.assertLess(r["waited_ms"], 1000)
            before = time.monotonic()
            self.assertEqual(other.refusal(other.start_lock(path, EX, timeout_ms=5)).code, 2)
            self.assertLess(time.monotonic() - before, 5)
            self.client.unlock(r["lock"])
        self.assertEqual(tokens, sorted(set(tokens)))

    def test_a_day_back(self):
        self.check("uv_gettimeofday:back@30+")

    def test_a_day_forward(self):
        self.check("uv_gettimeofday:forward@30+")

    def test_a_day_forward_and_back_again(self):
        self.check("uv_gettimeofday:forward@30;uv_gettimeofday:forward@60")


class Harness(unittest.TestCase):
    def test_a_fault_that_is_not_understood_ends_the_program(self):
        for faults in ("flok:kill", "flock:kil", "flock:kill@", "flock:kill@0", "flock:kill/2x", "flock"):
            done = subprocess.run([FAULTY, "--version"], env=dict(os.environ, PORTALOCK_FAULTS=faults), capture_output=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 64, faults)
            self.assertIn(b"PORTALOCK_FAULTS is wrong", done.stderr)


if __name__ == "__main__":
    unittest.main()
