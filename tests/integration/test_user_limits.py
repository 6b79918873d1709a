"""A daemon for all users: one of them at all his limits, and others who do not notice."""

import fcntl
import json
import os
import resource
import time
import unittest

import hanging_fs
from hanging_fs import SETLK, HangingFs
from users import ALICE, BOB, UsersTest
from wire import PATIENCE, stood_ready

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"
LIMIT = 8
SLOW = float(os.environ.get("PORTALOCK_SLOW", "1"))


class Limits(UsersTest):
    def setUp(self):
        super().setUp()
        self.shared = self.folder(ALICE, "shared", 0o777)
        self.bob = self.user(BOB)

    def file(self, name="file"):
        return os.path.join(self.shared, name)

    def limit(self, e):
        self.assertEqual((e.code, e.data["name"]), (LIMIT, "LIMIT"))
        return e.data["limit"]

    def bob_is_served(self):
        """Quickly, whatever the other does: a new connection, a lock with his own file. The best of three, but for waiting for a processor."""
        times = []
        for _ in range(3):
            fd = self.open(self.file("bobs"))
            bob = self.user(BOB)
            began, stood = time.monotonic(), stood_ready(self.daemon)
            bob.unlock(bob.lock(None, EX, fd)["lock"])
            times.append(time.monotonic() - began - (stood_ready(self.daemon) - stood))
            bob.close()
        self.assertLess(min(times), 0.1 * SLOW)

    def gauge(self, name):
        return self.bob.call("stats")["gauges"][name]

    def await_gauge(self, name, least, most):
        deadline = time.monotonic() + PATIENCE
        while not least <= self.gauge(name) <= most:
            self.assertLess(time.monotonic(), deadline, f"{name} is {self.gauge(name)}")


class Few(Limits):
    """Under a limit of 256 descriptors 128 are for locks, a quarter of them for one user, and so many sessions."""

    limit_of_descriptors = 256
    SHARE = 32

    def test_sessions(self):
        alices = [self.user(ALICE) for _ in range(self.SHARE)]
        for c in alices:
            c.ping()
        refused = self.user(ALICE)
        self.assertEqual(refused.line()["error"]["data"], {"name": "LIMIT", "limit": "sessions_per_uid"})
        self.assertIsNone(refused.line())
        self.bob_is_served()
        self.user(0).ping()
        alices.pop().close()
        self.await_gauge("sessions", 0, self.SHARE + 1)
        self.user(ALICE).ping()

    def test_descriptors_of_locks(self):
        alice, second = self.user(ALICE), self.user(ALICE)
        locks = [alice.lock(None, EX, self.open(self.file(f"f{i}")))["lock"] for i in range(self.SHARE)]
        for c in (alice, second):
            self.assertEqual(self.limit(c.refusal(c.start_lock(None, EX, self.open(self.file("more"))))), "descriptors_per_uid")
        self.bob_is_served()
        self.assertTrue(alice.unlock(locks.pop()))
        second.lock(None, EX, self.open(self.file("more")))
        self.assertEqual(self.gauge("descriptors"), self.SHARE)

    def test_a_descriptor_that_is_held_back_comes_when_one_is_free(self):
        alice, second = self.user(ALICE), self.user(ALICE)
        locks = [alice.lock(None, EX, self.open(self.file(f"f{i}")))["lock"] for i in range(self.SHARE)]
        id = second.start_lock(None, EX, self.open(self.file("more")))
        self.bob.ping()
        began = time.monotonic()
        alice.unlock(locks.pop())
        second.reply(id)
        self.assertLess(time.monotonic() - began, 0.5 * SLOW)  # not only when its second is over

    def test_descriptors_that_nobody_claims(self):
        fd = self.open(self.file())
        alices = [self.user(ALICE) for _ in range(3)]
        for c in alices:
            for _ in range(30):
                c.raw(" ", fd)
        self.bob_is_served()
        self.await_gauge("descriptors_open", 32 + 4 + self.SHARE, 32 + 4 + self.SHARE)
        for c in alices:
            c.close()
        self.bob_is_served()
        self.await_gauge("descriptors_open", 32 + 1, 32 + 1)

    def test_what_a_user_had_is_his_again_when_his_sessions_end(self):
        for _ in range(3):
            alices = [self.user(ALICE) for _ in range(self.SHARE)]
            for i, c in enumerate(alices):
                fd = self.open(self.file(f"f{i}"))
                c.lock(None, EX, fd)
                self.close(fd)
            for c in alices:
                c.close()
            self.await_gauge("sessions", 1, 1)

    def test_watches(self):
        alices = [self.user(ALICE) for _ in range(5)]
        for c in alices[:4]:
            for _ in range(64):
                c.call("watch", {"path": "/nothing"})
        self.assertEqual(self.limit(alices[4].refuse("watch")), "watches_per_uid")
        self.bob.call("watch")
        alices[0].close()
        self.await_gauge("sessions", 5, 5)
        self.assertEqual(alices[4].call("watch"), {})


class Many(Limits):
    limit_of_descriptors = 2048
    LOCKS = 20000

    def each(self, sessions, fds, flags):
        """Every session asks with every description; what is refused is returned."""
        text = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "lock", "params": {"fd": True, "flags": [flags]}}) + "\n"
        for n, c in enumerate(sessions):
            for i, fd in enumerate(fds):
                c.raw(text.replace('"id": 0', f'"id": {i + 1}'), fd)
            c.last_id = len(fds)

    def test_locks(self):
        fds = [self.open(self.file(f"f{i}")) for i in range(200)]
        sessions = [self.user(ALICE) for _ in range(self.LOCKS // len(fds))]
        self.each(sessions, fds, SH)
        for c in sessions:
            for i in range(len(fds)):
                c.reply(i + 1)
        one_more = self.user(ALICE)
        self.assertEqual(self.limit(one_more.refusal(one_more.start_lock(None, SH, fds[0]))), "locks_per_uid")
        token = one_more.call("list", {"limit": 1})["locks"][0]["holders"][0]["token"]
        claimed = one_more.lock(None, SH, fds[0], reclaim={"token": token, "mode": SH})  # others may have taken the place of what he had
        self.assertTrue(one_more.unlock(claimed["lock"]))
        self.assertEqual(self.gauge("locks"), self.LOCKS)
        self.bob_is_served()
        sessions[0].call("unlock", {"lock": sessions[0].call("list", {"session": self.session(sessions[0]), "limit": 1})["locks"][0]["holders"][0]["lock"]})
        one_more.lock(None, SH, fds[0])

    def session(self, client):
        (row,) = client.call("list", {"pid": client.pid, "limit": 1})["locks"][0]["holders"]
        return row["session"]

    def test_waits_for_outsiders_leave_threads_to_others(self):
        files = [self.file(f"f{i}") for i in range(80)]
        for f in files + [self.file("bobs-too")]:
            fcntl.flock(self.open(f), fcntl.LOCK_EX)
        alice = self.user(ALICE)
        for f in files:
            alice.start_lock(None, EX, self.open(f))
        alice.ping()
        self.assertEqual((self.gauge("kernel_wait_threads"), self.gauge("kernel_wait_retries")), (64, 16))
        self.bob.start_lock(None, EX, self.open(self.file("bobs-too")))
        self.bob.ping()
        self.assertEqual((self.gauge("kernel_wait_threads"), self.gauge("kernel_wait_retries")), (65, 16))
        self.bob_is_served()

    def test_replies_that_nobody_reads(self):
        fds = [self.open(self.file(f"f{i}")) for i in range(50)]
        holders = [self.user(ALICE) for _ in range(40)]
        self.each(holders, fds, SH)
        for c in holders:
            for i in range(len(fds)):
                c.reply(i + 1)
        lazy = [self.user(ALICE) for _ in range(40)]
        for c in lazy:
            c.send("list", {"limit": 4000, "outside": False})
        refusals = 0
        while refusals == 0:  # as soon as more than 8 MiB are unsent
            id = holders[0].send("list", {"limit": 1, "outside": False})
            try:
                holders[0].reply(id)
            except Exception as e:
                self.assertEqual(self.limit(e), "backlog_per_uid")
                refusals += 1
        self.bob_is_served()
        self.assertGreater(len(self.bob.call("list", {"limit": 4000})["locks"]), 0)
        for c in lazy:  # nothing is lost
            try:
                c.reply(1)
            except Exception as e:
                self.assertEqual(self.limit(e), "backlog_per_uid")
        self.assertGreater(len(holders[0].call("list", {"limit": 1})["locks"]), 0)

    def test_a_flood_from_many_sessions_of_one_user_is_one_users_share(self):
        lines = b'{"jsonrpc":"2.0","method":"ping"}\n' * 20000
        alices = [self.user(ALICE) for _ in range(60)]
        left = {}
        for c in alices:
            c.socket.setblocking(False)
        counts, before = [], 0
        for _ in range(100):
            for c in alices:
                rest = left.get(c) or lines
                try:
                    left[c] = rest[c.socket.send(rest) :]
                except BlockingIOError:
                    pass
            before = self.bob.call("stats")["counters"]["ping"]
            counts.append(self.bob.call("stats")["counters"]["ping"] - before)
        # What is carried out between two requests of Bob's: two turns or three, 512 lines each. With a share for each session it would be 3840.
        self.assertLess(sorted(counts)[len(counts) // 2], 2500)
        self.assertGreater(max(counts), 60)  # and she did have something to do


class Hanging(Limits):
    """Files on a dead file server keep helper threads: 8 of 32 for one user."""

    def file_system(self):
        try:
            fs = HangingFs(locks=True)
        except hanging_fs.Unavailable as e:
            self.skipTest(f"no FUSE here: {e}")
        self.addCleanup(fs.close)
        fs.locked = False
        return fs

    def test_they_keep_a_quarter_of_the_threads(self):
        dead, alive = self.file_system(), self.file_system()
        dead.hang(SETLK)
        fds = [os.open(dead.path(f"file{i}"), os.O_RDONLY) for i in range(40)]
        self.addCleanup(lambda: [os.close(fd) for fd in fds])
        self.addCleanup(dead.go_on)
        alice = self.user(ALICE)
        ids = [alice.start_lock(None, EX, fd) for fd in fds]
        dead.await_hanging(8)
        fd = os.open(alive.path("file1"), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        self.bob.unlock(self.bob.lock(None, EX, fd, timeout_ms=5000)["lock"])  # while all those hang
        self.bob_is_served()
        self.assertEqual(len(dead.held), 8)
        dead.go_on()
        for id in ids:
            alice.reply(id)


@unittest.skipIf(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 16800, "needs a limit of 16800 descriptors, a quarter of which is for one user")
class Waiting(Limits):
    limit_of_descriptors = 16800
    WAITING = 4000

    def test_one_more(self):
        holder = self.user(0)
        held = self.open(self.file())
        holder.lock(None, EX, held)
        alice, second, before = (self.user(ALICE) for _ in range(3))
        borne = self.open(self.file("borne"))
        token = before.lock(None, EX, borne)["token"]
        before.close()
        for _ in range(self.WAITING):
            fd = os.open(self.file(), os.O_RDWR)
            alice.start_lock(None, SH, fd)
            os.close(fd)
        self.await_gauge("waiting", self.WAITING, self.WAITING)
        fd = self.open(self.file())
        self.assertEqual(self.limit(second.refusal(second.start_lock(None, SH, fd))), "waiting_per_uid")
        self.assertEqual(second.lock(None, EX, borne, reclaim={"token": token, "mode": EX})["token"], token)  # it never waits
        self.bob_is_served()
        self.assertEqual(self.bob.busy(None, EX_NB, self.open(self.file())).code, 1)
        alice.call("cancel", {"id": 1})
        self.assertEqual(second.refusal(second.start_lock(None, SH, fd, timeout_ms=1)).code, 2)


if __name__ == "__main__":
    unittest.main()
