"""The daemon without memory: each of its allocations fails in turn, and nothing worse happens than that a request is refused or a connection ends."""

import fcntl
import mmap
import os
import struct
import tempfile
import time
import unittest

from wire import PATIENCE, Client, Daemon, is_free

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"
FAULTY = os.environ.get("PORTALOCKD_FAULT", "portalockd_fault")


class Memory:
    """`struct starvation` (support/starve.h), shared with the daemon."""

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="portalock-memory-")
        self.file.truncate(32)
        self.map = mmap.mmap(self.file.fileno(), 32)
        self.environment = dict(os.environ, PORTALOCK_STARVE=self.file.name)

    def fail(self, n, least=0):
        """The n-th allocation from now on, of those of at least so many bytes."""
        struct.pack_into("=qq", self.map, 16, 0, least)
        struct.pack_into("=q", self.map, 0, n)

    def relax(self):
        """Memory is back. True: an allocation has failed."""
        struct.pack_into("=q", self.map, 0, 0)
        return struct.unpack_from("=q", self.map, 16)[0] > 0

    def close(self):
        self.map.close()
        self.file.close()


class Resilient(Client):
    """Takes whatever answer comes, but exactly one for each request, unless its connection ends."""

    def __init__(self, path):
        super().__init__(path)
        self.asked = set()
        self.over = False

    def take(self):
        try:
            message = self.line()
        except ConnectionError:
            message = None
        if message is None:
            self.over = True
            return False
        if "method" in message:
            self.notifications.append(message)
        elif message["id"] is None:
            self.anonymous.append(message)
        elif message["id"] not in self.asked or message["id"] in self.replies:
            raise AssertionError(f"nobody asked for this answer: {message}")
        else:
            self.replies[message["id"]] = message
        return True

    def ask(self, method, params=None, fd=None):
        """A request that is not waited for; its id."""
        try:
            id = self.send(method, params, fd)
            self.asked.add(id)
            return id
        except OSError:
            self.over = True
            return None

    def result(self, id):
        """None: refused, or over."""
        if id is None:
            return None
        while not self.over and id not in self.replies and not self.anonymous:
            self.take()
        return self.replies.get(id, {}).get("result")

    def get(self, method, params=None, fd=None):
        return self.result(self.ask(method, params, fd))

    def ask_lock(self, path, flags, fd=None, **more):
        params = {"flags": flags.split("|"), **more}
        if path is not None:
            params["path"] = path
        if fd is not None:
            params["fd"] = True
        return self.ask("lock", params, fd)

    def start_to_wait(self, path, flags, fd=None, **more):
        """As ask_lock(), and it is carried out before anybody else goes on."""
        id = self.ask_lock(path, flags, fd, **more)
        self.get("ping")
        return id

    def get_lock(self, path, flags, fd=None, **more):
        """The lock's id; 0 when it was refused."""
        return (self.result(self.ask_lock(path, flags, fd, **more)) or {}).get("lock") or 0

    def settle(self):
        """Every answer is there, or the connection has ended."""
        while not self.over and len(self.replies) + len(self.anonymous) < len(self.asked):
            self.take()


class Starving(unittest.TestCase):
    keep_open_ms = 0  # what is left open is known to be lost

    def setUp(self):
        self.memory = Memory()
        self.addCleanup(self.memory.close)
        self.daemon = Daemon("--keep-open", str(self.keep_open_ms), program=FAULTY, env=self.memory.environment)
        self.addCleanup(self.daemon.stop)
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.bystander = self.daemon.connect()
        self.addCleanup(self.bystander.close)
        self.others = self.bystander.lock(self.daemon.file("bystander"), EX)["lock"]
        self.clients, self.fds = [], []

    def client(self):
        c = Resilient(self.daemon.path)
        self.clients.append(c)
        c.ask("hello", {"protocol": 1, "client": "starved"})
        return c

    def open(self, name):
        fd = self.daemon.open(name)
        self.fds.append(fd)
        return fd

    def close(self, *clients):
        for c in clients:
            c.close()
            self.clients.remove(c)

    def await_rest(self, what, descriptors=None):
        """Nobody but the bystander has anything, and what was opened is closed. How many descriptors that is."""
        deadline = time.monotonic() + PATIENCE
        while True:
            gauges = self.bystander.call("stats")["gauges"]
            now = [gauges[k] for k in ("sessions", "locks", "waiting", "files", "kernel_waits")]
            count = len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))
            if now == [1, 1, 0, 1, 0] and count <= (descriptors or count):
                return count
            if time.monotonic() > deadline:
                self.fail(f"{what} left something behind: {now}, {count} descriptors instead of {descriptors}\n{self.daemon.log()}")

    def starve_once(self, scenario, n, least):
        """False: the scenario has fewer allocations than n."""
        self.memory.fail(n, least)
        try:
            scenario()
            for c in self.clients:
                c.settle()
        except Exception as e:
            e.add_note(f"allocation {n} failed")
            raise
        finally:
            failed = self.memory.relax()
            if self.daemon.process.poll() is not None:
                self.fail(f"allocation {n} has ended the daemon ({self.daemon.process.returncode})\n{self.daemon.log()}")
            self.end_scenario()
        # Others are served.
        self.bystander.unlock(self.others)
        self.others = self.bystander.lock(self.daemon.file("bystander"), EX_NB)["lock"]
        return failed

    def starve_all(self, scenario, least=0):
        """The scenario with its n-th allocation failing, for n = 1, 2, ... until none fails any more."""
        scenario()
        self.end_scenario()
        descriptors = self.await_rest("the scenario")
        n = 1
        while self.starve_once(scenario, n, least):
            self.await_rest(f"allocation {n}", descriptors)
            n += 1
            self.assertLess(n, 2000)
        self.assertGreater(n, 5)
        self.assertEqual(self.daemon.end(), 0)  # under ASan: nothing leaks
        self.assertNotIn("out_of_room", self.daemon.log())

    def end_scenario(self):
        for c in self.clients:
            c.close()
        for fd in self.fds:
            os.close(fd)
        self.clients, self.fds = [], []


class Starved(Starving):
    def test_locks_by_path(self):
        path, other = self.daemon.file("a"), self.daemon.file("b")

        def scenario():
            a, b, c = self.client(), self.client(), self.client()
            lock = a.get_lock(path, EX)
            b.get_lock(path, EX_NB)
            b.get_lock(path, EX, timeout_ms=1)
            first = b.start_to_wait(path, EX, notify=True)
            c.start_to_wait(path, SH, notify=True)
            c.start_to_wait(path, SH, handle=1)
            cancelled = c.start_to_wait(path, EX, handle=2)
            c.get("cancel", {"id": cancelled or 0})
            a.get("unlock", {"lock": lock})
            b.result(first)
            b.get("unlock", {"path": path})
            c.get_lock(other, SH)
            upgrade = c.start_to_wait(path, EX)
            c.get("unlock", {"path": path, "handle": 1})
            c.result(upgrade)
            c.get_lock(path, SH)
            self.close(a)

        self.starve_all(scenario)

    def test_locks_by_descriptor(self):
        path = self.daemon.file("d")

        def scenario():
            a, b = self.client(), self.client()
            first, second, third = self.open("d"), self.open("d"), self.open("e")
            lock = a.get_lock("/label", SH, first)
            b.get_lock(None, SH, first)
            b.get_lock("/label", SH, second)
            b.get_lock("/label", EX, third)
            b.get_lock("/label", EX_NB, third, detach=True)
            b.get_lock(path, EX_NB, handle=3)
            waits = a.start_to_wait(None, EX, first)
            b.start_to_wait(None, EX, second)  # a deadlock
            b.get("unlock", {"path": "/label"})
            b.get("ping")
            self.close(b)
            fcntl.flock(second, fcntl.LOCK_UN)  # what a description bears is not taken from it when its session ends
            a.result(waits)
            a.get("unlock", {"lock": lock, "close": True})
            os.unlink(path)

        self.starve_all(scenario)

    def test_a_claim_that_fails_takes_nothing_away(self):
        path = self.daemon.file("c")

        def scenario():
            a = self.client()
            borne = self.open("c")
            fcntl.flock(borne, fcntl.LOCK_EX)  # as by a daemon that died
            a.get_lock("/label", EX, borne, reclaim={"token": 1, "mode": EX})
            a.get("ping")
            self.assertFalse(is_free(path))

        self.starve_all(scenario)

    def test_parents_and_children(self):
        def scenario():
            ids = []
            for parent in (None, 0, 1):
                c = Resilient(self.daemon.path)
                self.clients.append(c)
                claims = {"parent": ids[parent]} if parent is not None else {}
                ids.append((c.get("hello", {"concurrent": parent == 1, **claims}) or {}).get("session", 1))
            self.close(self.clients[1])
            back = Resilient(self.daemon.path)
            self.clients.append(back)
            back.get("hello", {"session": ids[1], "parent": ids[0]})

        self.starve_all(scenario)

    def test_nobody_gets_anothers_file(self):
        """Which descriptor belongs to which request is known by their order alone."""
        names = ("one", "two", "three")

        def scenario():
            a = self.client()
            ids = {a.ask_lock(None, EX, self.open(name)): self.daemon.file(name) for name in names}
            a.settle()
            for id, path in ids.items():
                self.assertEqual((a.result(id) or {"path": path})["path"], path)

        self.starve_all(scenario)

    def test_waits_for_outsiders_and_replaced_files(self):
        path = self.daemon.file("f")

        def scenario():
            outsider = self.open("f")
            fcntl.flock(outsider, fcntl.LOCK_EX)
            a, b, c = self.client(), self.client(), self.client()
            waits = a.start_to_wait(path, EX, notify=True)
            then = b.start_to_wait(path, SH)
            cancelled = c.start_to_wait(None, SH, self.open("f"))
            c.get("cancel", {"id": cancelled or 0})
            os.unlink(path)
            self.open("f")
            fcntl.flock(outsider, fcntl.LOCK_UN)
            a.result(waits)
            self.close(a)
            b.result(then)
            upgrade = b.start_to_wait(path, EX)
            b.result(upgrade)

        self.starve_all(scenario)

    def test_what_only_looks(self):
        path = self.daemon.file("w")

        def scenario():
            a, b = self.client(), self.client()
            a.get("watch", {"path": path})
            a.get("watch")
            lock = b.get_lock(path, EX)
            waits = a.start_to_wait(path, EX)
            a.get("list")
            a.get("list", {"path": path})
            a.get("list", {"path": path, "outside": False, "limit": 1})
            a.get("stats")
            a.get("break", {"lock": lock})
            a.get("break", {"lock": lock})
            a.get("unlock", {"path": path})
            a.result(waits)
            a.get("nonsense")
            a.get("lock", {"path": path, "flags": ["LOCK_EX"], **{f"more{i}": i for i in range(20)}})

        self.starve_all(scenario)

    def test_many_at_once(self):
        """Room for events, effects, indices and slots grows while requests come."""
        paths = [self.daemon.file(f"m{i}") for i in range(100)]

        def scenario():
            a, b = self.client(), self.client()
            for p in paths:
                a.ask_lock(p, EX)
            for p in paths:
                b.ask_lock(p, SH)
                b.ask_lock(p, SH, handle=1)
            b.get("ping")
            self.close(a)

        self.starve_all(scenario, least=1000)


class Kept(Starving):
    """Files that stay open when nobody needs them: until the end of the scenario, and then a hundredth of a second."""

    keep_open_ms = 10

    def test_locks_by_path_again_and_again(self):
        path, other = self.daemon.file("k"), self.daemon.file("l")

        def scenario():
            a = self.client()
            for p in (path, other) * 3:
                a.get_lock(p, EX)
                a.get("unlock", {"path": p})
            self.open("l")
            os.rename(other, path)
            a.get_lock(path, EX)

        self.starve_all(scenario)


class Start(unittest.TestCase):
    def test_it_starts_or_says_why_not(self):
        memory = Memory()
        self.addCleanup(memory.close)
        environment = dict(memory.environment, ASAN_OPTIONS="detect_leaks=0")  # it exits as it stands
        failed, n = True, 0
        while failed:
            n += 1
            self.assertLess(n, 1000)
            memory.fail(n)
            daemon = Daemon(program=FAULTY, env=environment)
            failed = memory.relax()
            if daemon.ready:
                with daemon.connect() as c:
                    c.lock(daemon.file(), EX)
            else:
                self.assertEqual(daemon.process.returncode, 1, daemon.log())
                self.assertRegex(daemon.log(), "portalockd: .*: (Cannot allocate memory|out of memory|Resource temporarily unavailable)")
                self.assertFalse(os.path.exists(daemon.path), n)
            self.assertEqual(daemon.stop(), 0 if daemon.ready else 1)
        self.assertGreater(n, 5)


if __name__ == "__main__":
    unittest.main()
