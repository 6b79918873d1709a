"""watch and break: who is told what of whose lock, and what is left of a lock that was taken away."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import hanging_fs
from hanging_fs import LOOKUP, HangingFs
from wire import PATIENCE, Client, Daemon, DaemonTest, is_free

EX, SH, EX_NB, SH_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB", "LOCK_SH|LOCK_NB"
WATCHES_MAX = 64
HERE = os.path.dirname(os.path.abspath(__file__))
CHILD = """
import sys, wire
c = wire.Client(sys.argv[1])
sys.stdin.readline()
c.lock(sys.argv[2], "LOCK_EX")
print(flush=True)
sys.stdin.readline()
"""
OTHER_UID = 12345  # some user that is neither root nor nobody


class WatchTest(DaemonTest):
    def watcher(self, *watches, **more):
        w = self.client(**more)
        for params in watches or ({},):
            self.assertEqual(w.call("watch", params), {})
        return w

    def events(self, w):
        """What it was told until now, whole."""
        w.ping()
        told = [n["params"] for n in w.notifications if n["method"] == "event"]
        w.notifications.clear()
        return told

    def told(self, w):
        return [e["event"] for e in self.events(w)]

    def await_events(self, w, count):
        while sum(1 for n in w.notifications if n["method"] == "event") < count:
            self.assertTrue(w.take())
        return self.told(w)


class Events(WatchTest):
    def test_a_grant_and_a_release_name_everything(self):
        w, a = self.watcher(), self.client()
        session = a.call("hello", {"client": "nightly"})["session"]
        before = int(time.time() * 1000)
        lock = a.lock(self.path, EX)
        a.unlock(lock["lock"])
        granted, released = self.events(w)
        self.assertTrue(before <= granted.pop("time_ms") <= released.pop("time_ms") <= int(time.time() * 1000))
        with open("/proc/self/comm") as f:
            command = f.read().rstrip("\n")
        expected = {"session": session, "lock": lock["lock"], "pid": os.getpid(), "uid": os.getuid(), "command": command, "client": "nightly"}
        expected |= {"path": self.path, "mode": EX, "token": lock["token"]}
        self.assertEqual(granted, {"event": "granted", **expected})
        self.assertEqual(released, {"event": "released", **expected})

    def test_a_wait_is_told_and_has_neither_lock_nor_token(self):
        w, a, b = self.watcher(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        id = b.start_lock(self.path, SH)
        self.await_waiting(a, self.path, 1)
        _, waiting = self.events(w)
        self.assertEqual((waiting["event"], waiting["mode"], waiting["path"]), ("waiting", SH, self.path))
        self.assertFalse({"lock", "token"} & waiting.keys())
        a.unlock(lock)
        b.reply(id)
        self.assertEqual(self.told(w), ["released", "granted"])

    def test_a_relock_and_a_downgrade_are_no_news_but_an_upgrade_is(self):
        w, a = self.watcher(), self.client()
        a.lock(self.path, SH)
        a.lock(self.path, SH)
        a.lock(self.path, EX)
        a.lock(self.path, SH)
        self.assertEqual([(e["event"], e["mode"]) for e in self.events(w)], [("granted", SH), ("granted", EX)])

    def test_who_never_waits_is_told_of_only_when_granted(self):
        a = self.client()
        a.lock(self.path, EX)
        w, b = self.watcher(), self.client()
        b.busy(self.path, EX_NB)
        b.busy(self.path, EX, timeout_ms=0)
        self.assertEqual(self.told(w), [])

    def test_released_by_unlock_by_close_and_by_death(self):
        w, a, b = self.watcher(), self.client(), self.client()
        a.unlock(a.lock(self.path, EX)["lock"])
        self.assertEqual(self.told(w), ["granted", "released"])
        lock = a.lock(None, EX, self.open())["lock"]
        a.unlock(lock, close=True)
        granted, released = self.events(w)
        self.assertEqual((released["event"], released["lock"], released["path"]), ("released", lock, self.path))
        b.lock(self.daemon.file("other"), EX)
        b.close()
        self.assertEqual(self.await_events(w, 2), ["granted", "released"])

    def test_a_detached_lock_is_granted_without_an_id_and_its_end_is_not_seen(self):
        w, a = self.watcher(), self.client()
        fd = self.open()
        a.lock(None, EX, fd, detach=True)
        self.close(fd)
        (granted,) = self.events(w)
        self.assertEqual((granted["event"], granted["path"]), ("granted", self.path))
        self.assertNotIn("lock", granted)

    def test_timed_out_cancelled_and_deadlock(self):
        w, a, b = self.watcher(), self.client(), self.client()
        a.lock(self.path, SH)
        b.lock(self.path, SH)
        self.told(w)
        self.assertEqual(b.refusal(b.start_lock(self.path, EX, timeout_ms=1)).code, 2)
        self.assertEqual(self.told(w), ["waiting", "timed_out"])
        id = b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        self.assertEqual(a.refusal(a.start_lock(self.path, EX)).code, 3)
        self.assertEqual(self.told(w), ["waiting", "deadlock"])
        b.call("cancel", {"id": id})
        self.assertEqual(b.refusal(id).code, 4)
        self.assertEqual(self.told(w), ["cancelled"])

    def test_a_session_that_dies_cancels_its_waits_before_it_releases(self):
        w, a, b = self.watcher(), self.client(), self.client()
        a.lock(self.path, SH)
        b.lock(self.path, SH)
        b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        b.close()
        self.assertEqual(self.await_events(w, 5), ["granted", "granted", "waiting", "cancelled", "released"])

    def test_lost_by_break_knows_the_file_though_nobody_has_it_any_more(self):
        w, a = self.watcher(), self.client()
        lock = a.lock(None, EX, self.open())["lock"]
        self.client().call("break", {"lock": lock})
        granted, lost = self.events(w)
        self.assertEqual((lost["event"], lost["lock"], lost["path"]), ("lost", lock, self.path))
        self.assertEqual(lost["token"], granted["token"])


class Filters(WatchTest):
    def test_by_path_and_by_every_other_name_of_the_file(self):
        self.open()
        link, symlink = self.daemon.file("link"), self.daemon.file("symlink")
        os.link(self.path, link)
        os.symlink(self.path, symlink)
        watchers = [self.watcher({"path": p}) for p in (self.path, link, symlink)]
        a = self.client()
        for name in (self.path, link, symlink):
            a.unlock(a.lock(name, EX)["lock"])
        a.lock(self.daemon.file("other"), EX)
        for w in watchers:
            self.assertEqual(self.told(w), ["granted", "released"] * 3)

    def test_a_file_that_is_younger_than_the_watch(self):
        os.symlink(self.daemon.folder, self.daemon.file("folder"))
        detour = self.daemon.file("folder/file")
        direct, by_detour, a = self.watcher({"path": self.path}), self.watcher({"path": detour}), self.client()
        a.unlock(a.lock(detour, EX)["lock"])
        self.assertEqual(self.told(direct), ["granted", "released"])
        self.assertEqual(self.told(by_detour), ["granted", "released"])
        os.unlink(self.path)
        a.unlock(a.lock(detour, EX)["lock"])  # a new file of that name
        self.assertEqual(self.told(direct), ["granted", "released"])
        self.assertEqual(self.told(by_detour), ["granted", "released"])

    def test_by_pid(self):
        child = subprocess.Popen([sys.executable, "-c", CHILD, self.daemon.path, self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HERE)
        self.addCleanup(child.stdout.close)
        mine, its = self.watcher({"pid": os.getpid()}), self.watcher({"pid": child.pid})
        a = self.client()
        a.unlock(a.lock(self.path, EX)["lock"])
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        self.assertEqual(self.told(mine), ["granted", "released"])
        (e,) = self.events(its)
        self.assertEqual((e["event"], e["pid"]), ("granted", child.pid))
        child.stdin.close()
        child.wait(PATIENCE)
        self.assertEqual(self.await_events(its, 1), ["released"])

    def test_by_session_and_all_of_a_filter_must_fit(self):
        a, b = self.client(), self.client()
        session = a.call("hello", {})["session"]
        w = self.watcher({"session": session})
        both = self.watcher({"session": session, "path": self.daemon.file("other")})
        a.lock(self.path, SH)
        b.lock(self.path, SH)
        b.lock(self.daemon.file("other"), SH)
        self.assertEqual([e["session"] for e in self.events(w)], [session])
        self.assertEqual(self.told(both), [])
        a.lock(self.daemon.file("other"), SH)
        self.assertEqual(self.told(both), ["granted"])

    def test_one_event_only_for_a_session_that_watches_twice(self):
        w, a = self.watcher({}, {}, {"path": self.path}, {"pid": os.getpid()}), self.client()
        a.lock(self.path, EX)
        self.assertEqual(self.told(w), ["granted"])

    def test_what_is_no_filter_is_refused(self):
        c = self.client()
        for params, member in (({"path": "file"}, "path"), ({"pid": -1}, "pid"), ({"session": "1"}, "session"), ({"lock": 1}, "lock")):
            e = c.refuse("watch", params)
            self.assertEqual((e.code, e.data["member"]), (-32602, member))

    def test_so_many_watches_and_no_more(self):
        w, a = self.watcher(*[{}] * WATCHES_MAX), self.client()
        e = w.refuse("watch")
        self.assertEqual((e.code, e.data["limit"]), (8, "watches_per_session"))
        self.assertEqual(a.call("hello")["limits"]["watches_per_session"], WATCHES_MAX)
        a.lock(self.path, EX)
        self.assertEqual(self.told(w), ["granted"])
        self.watcher()  # others may


class Readers(WatchTest):
    def churn(self, a, count, name="file"):
        """`count` grants and as many releases."""
        path = self.daemon.file(name)
        for _ in range(count // 100):
            lines = []
            for _ in range(100):
                a.last_id += 2
                lines.append({"jsonrpc": "2.0", "id": a.last_id - 1, "method": "lock", "params": {"path": path, "flags": ["LOCK_EX"]}})
                lines.append({"jsonrpc": "2.0", "id": a.last_id, "method": "unlock", "params": {"path": path}})
            a.raw("".join(json.dumps(line) + "\n" for line in lines))
            for line in lines:
                a.reply(line["id"])

    def read_to_overflow(self, w):
        before = 0
        while True:
            e = w.notification("event")
            if e["event"] == "overflow":
                return before, e
            before += 1

    def test_who_does_not_read_is_told_how_much_it_missed_and_holds_nobody_up(self):
        w = self.watcher({"path": self.path}, {"path": self.daemon.file("other")}, rcvbuf=4096)
        healthy, a = self.watcher(), self.client()
        began = time.monotonic()
        for name in ("file", "other") * 5:
            self.churn(a, 300, name)
            self.assertEqual(len(self.told(healthy)), 600)
        self.assertLess(time.monotonic() - began, PATIENCE)
        before, overflow = self.read_to_overflow(w)
        self.assertEqual(overflow.keys(), {"event", "dropped", "time_ms"})
        self.assertGreater(before, 256 * 1024 // 400)  # the backlog was used
        self.assertEqual(before + overflow["dropped"], 6000)
        a.lock(self.path, EX)
        self.assertEqual(self.told(w), ["granted"])  # one overflow only, and it goes on

    def test_a_watcher_that_goes_away_is_forgotten(self):
        a = self.client()
        w, stuck = self.watcher(), self.watcher(rcvbuf=4096)
        self.churn(a, 2000)
        stays = self.watcher()
        for c in (w, stuck):
            c.close()
        while a.call("stats")["gauges"]["sessions"] > 2:
            pass
        a.lock(self.path, EX)
        self.assertEqual(self.told(stays), ["granted"])


class Away(WatchTest):
    def test_another_name_on_a_file_system_that_hangs(self):
        try:
            fs = HangingFs()
        except hanging_fs.Unavailable as e:
            self.skipTest(f"no FUSE here: {e}")
        self.addCleanup(fs.close)
        symlink, away = self.daemon.file("symlink"), fs.path("file1")
        os.symlink(away, symlink)
        fs.hang(LOOKUP)
        w, a = self.client(), self.client()
        id = w.send("watch", {"path": symlink})
        fs.await_hanging()
        w.ping()
        self.assertEqual(w.replies, {})
        a.unlock(a.lock(self.path, EX)["lock"])  # the others are served
        fs.go_on()
        self.assertEqual(w.reply(id), {})
        a.lock(away, EX)
        self.assertEqual(self.told(w), ["granted"])

    def test_a_watcher_that_goes_away_while_its_path_is_looked_up(self):
        try:
            fs = HangingFs()
        except hanging_fs.Unavailable as e:
            self.skipTest(f"no FUSE here: {e}")
        self.addCleanup(fs.close)
        fs.hang(LOOKUP)
        w, a = self.client(), self.client()
        w.send("watch", {"path": fs.path("file1")})
        fs.await_hanging()
        w.close()
        while a.call("stats")["gauges"]["sessions"] > 1:
            pass
        fs.go_on()
        a.lock(fs.path("file1"), EX)


class Break(WatchTest):
    def who(self):
        with open("/proc/self/comm") as f:
            return f"break by {f.read().rstrip()}[{os.getpid()}] (uid {os.getuid()})"

    def test_what_is_no_lock(self):
        a, b = self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        e = b.refuse("break", {"lock": lock + 1})
        self.assertEqual((e.code, e.data["name"]), (10, "NOT_FOUND"))
        a.unlock(lock)
        self.assertEqual(b.refuse("break", {"lock": lock}).code, 10)
        for params in ({}, {"lock": 0}, {"lock": "1"}, {"lock": 1.5}):
            e = b.refuse("break", params)
            self.assertEqual((e.code, e.data["member"]), (-32602, "lock"))

    def test_by_path_the_lock_is_gone_and_its_owner_knows(self):
        a, b = self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        self.assertEqual(b.call("break", {"lock": lock}), {})
        self.assertTrue(is_free(self.path))
        self.assertEqual(a.notification("lost"), {"lock": lock, "path": self.path, "by": self.who()})
        self.assertFalse(a.unlock(lock))
        self.assertFalse(a.call("unlock", {"path": self.path})["released"])
        self.assertEqual(b.refuse("break", {"lock": lock}).code, 10)
        stats = b.call("stats")
        self.assertEqual((stats["counters"]["lost"], stats["gauges"]["locks"], stats["gauges"]["path_locks"]), (1, 0, 0))
        self.assertNotEqual(a.lock(self.path, EX_NB)["lock"], lock)
        self.assertIn("event=broken", self.daemon.log())

    def test_by_descriptor_all_who_share_the_description_lose_it(self):
        a, b, c = self.client(), self.client(), self.client()
        fd = self.open()
        locks = [s.lock(None, EX, fd)["lock"] for s in (a, b)]
        c.call("break", {"lock": locks[1]})
        self.assertTrue(is_free(self.path))  # though the description is still open, here and in the daemon before
        for s, lock in zip((a, b), locks):
            self.assertEqual(s.notification("lost"), {"lock": lock, "path": "", "by": self.who()})
            self.assertTrue(s.is_silent())
            self.assertFalse(s.unlock(lock))
        self.assertEqual(c.call("stats")["gauges"]["descriptors"], 0)
        c.lock(self.path, EX_NB)
        a.busy(None, EX_NB, fd)

    def test_one_of_two_who_share_by_path(self):
        a, b = self.client(), self.client()
        lock, stays = a.lock(self.path, SH)["lock"], b.lock(self.path, SH)["lock"]
        b.call("break", {"lock": lock})
        a.notification("lost")
        self.assertEqual(b.notifications, [])
        self.assertFalse(is_free(self.path))
        self.assertTrue(is_free(self.path, fcntl.LOCK_SH))
        self.assertTrue(b.unlock(stays))
        self.assertTrue(is_free(self.path))

    def test_one_of_two_who_share_by_descriptor_of_their_own(self):
        a, b = self.client(), self.client()
        lock, stays = a.lock(None, SH, self.open())["lock"], b.lock(None, SH, self.open())["lock"]
        b.call("break", {"lock": lock})
        self.assertEqual(a.notification("lost")["lock"], lock)
        self.assertFalse(is_free(self.path))
        self.assertTrue(b.unlock(stays))
        self.assertTrue(is_free(self.path))

    def test_an_upgrade_that_waits_is_lost_with_its_lock(self):
        for fds in ((None, None), (self.open(), self.open())):
            a, b, w = self.client(), self.client(), self.watcher()
            path = self.path if fds[0] is None else None
            lock, stays = a.lock(path, SH, fds[0])["lock"], b.lock(path, SH, fds[1])["lock"]
            id = a.start_lock(path, EX, fds[0])
            self.await_waiting(b, self.path, 1)
            b.call("break", {"lock": lock})
            self.assertEqual(a.notification("lost")["lock"], lock)
            e = a.refusal(id)
            self.assertEqual((e.code, e.data["name"]), (5, "LOST"))
            self.assertEqual(self.told(w), ["granted", "granted", "waiting", "lost"])
            self.assertEqual(b.lock(path, EX_NB, fds[1])["lock"], stays)
            b.unlock(stays)
            self.assertTrue(is_free(self.path))

    def test_who_blocks_an_upgrade_is_broken_and_it_is_granted(self):
        a, b = self.client(), self.client()
        lock, blocks = a.lock(self.path, SH)["lock"], b.lock(self.path, SH)["lock"]
        id = a.start_lock(self.path, EX)
        self.await_waiting(b, self.path, 1)
        a.call("break", {"lock": blocks})
        self.assertEqual((a.reply(id)["lock"], b.notification("lost")["lock"]), (lock, blocks))
        self.assertFalse(is_free(self.path, fcntl.LOCK_SH))

    def test_the_next_who_waits_has_it_at_once(self):
        a, b, c = self.client(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        first, second = b.start_lock(self.path, EX), c.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 2)
        c.call("break", {"lock": lock})
        self.assertFalse(is_free(self.path))
        granted = b.reply(first)["lock"]
        a.call("break", {"lock": granted})  # whose own was broken may do so, too
        c.unlock(c.reply(second)["lock"])
        self.assertTrue(is_free(self.path))

    def test_one_s_own_lock_and_without_an_answer(self):
        a = self.client()
        lock = a.lock(self.path, EX)["lock"]
        a.send("break", {"lock": lock}, id=None)
        self.assertEqual(a.notification("lost")["lock"], lock)
        self.assertTrue(a.is_silent())

    def test_a_request_that_waits_after_the_break_of_its_session_s_lock_goes_on(self):
        a, b = self.client(), self.client()
        held = b.lock(self.path, EX)["lock"]
        other = a.lock(self.daemon.file("other"), EX)["lock"]
        id = a.start_lock(self.path, EX)
        self.await_waiting(b, self.path, 1)
        b.call("break", {"lock": other})
        a.notification("lost")
        b.unlock(held)
        a.reply(id)


@unittest.skipIf(os.getuid() != 0, "a second uid needs root")
class OtherUser(unittest.TestCase):
    """The daemon of a user, which serves root as well: root may break the user's locks, the user not root's."""

    def setUp(self):
        folder = tempfile.mkdtemp(prefix="portalock-")
        self.addCleanup(shutil.rmtree, folder, True)
        os.chown(folder, OTHER_UID, OTHER_UID)
        os.chmod(folder, 0o755)
        try:
            self.daemon = Daemon(socket_path=os.path.join(folder, "socket"), preexec_fn=self.become_other)
        except PermissionError as e:
            self.skipTest(f"another user cannot start the daemon: {e}")
        self.addCleanup(lambda: self.assertEqual(self.daemon.stop(), 0))
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.path = os.path.join(folder, "file")
        self.root = self.daemon.connect()
        self.addCleanup(self.root.close)

    @staticmethod
    def become_other():
        os.setgroups([])
        os.setgid(OTHER_UID)
        os.setuid(OTHER_UID)

    def as_other(self, action):
        """What `action(client)` returns, done by a process of the other user; it ends, and its locks with it, when `done` is written to."""
        done, end = os.pipe()
        result, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                self.become_other()
                os.close(end)
                c = Client(self.daemon.path)
                os.write(report, json.dumps(action(c)).encode() + b"\n")
                os.read(done, 1)
            finally:
                os._exit(0)
        os.close(done)
        os.close(report)

        def finish():
            os.close(end)
            os.waitpid(pid, 0)

        self.addCleanup(finish)
        with os.fdopen(result) as f:
            return json.loads(f.readline())

    def test_the_user_may_not_break_what_root_holds(self):
        lock = self.root.lock(self.path, EX)["lock"]
        self.assertEqual(self.as_other(lambda c: c.refuse("break", {"lock": lock}).code), 6)
        self.assertFalse(is_free(self.path))
        self.assertTrue(self.root.unlock(lock))

    def test_root_may_break_what_the_user_holds(self):
        lock = self.as_other(lambda c: c.lock(self.path, EX)["lock"])
        self.assertFalse(is_free(self.path))
        self.root.call("break", {"lock": lock})
        self.assertTrue(is_free(self.path))

    def test_the_user_may_break_what_the_user_holds(self):
        lock = self.as_other(lambda c: c.lock(self.path, EX)["lock"])
        self.assertEqual(self.as_other(lambda c: c.call("break", {"lock": lock})), {})
        self.assertTrue(is_free(self.path))


if __name__ == "__main__":
    unittest.main()
