"""Lists: what is in them, pages whose size holds whatever is in them, and who is outside."""

import fcntl
import os
import re
import signal
import time
import unittest

from wire import PATIENCE, DaemonTest, needs

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"


class Rows(DaemonTest):
    def test_filters(self):
        a, b = self.client(), self.client()
        session = b.call("hello", {"protocol": 1})["session"]
        other = self.daemon.file("other")
        a.lock(self.path, SH)
        b.lock(self.path, SH)
        a.lock(other, EX, handle=3)
        b.start_lock(other, SH, timeout_ms=60000)
        self.await_waiting(a, other, 1)
        all = self.rows(a)
        self.assertEqual(sorted(all), sorted([self.path, other]))
        (h,) = all[other]["holders"]
        self.assertEqual((h["handle"], h["mode"]), (3, "LOCK_EX"))
        (w,) = all[other]["waiters"]
        self.assertEqual((w["position"], w["timeout_ms"], w["mode"], w["session"]), (1, 60000, "LOCK_SH", session))
        status = os.stat(other)
        self.assertEqual((all[other]["device"], all[other]["inode"]), (str(status.st_dev), str(status.st_ino)))
        self.assertEqual(list(self.rows(a, path=other)), [other])
        self.assertEqual(list(self.rows(a, state="waiting")), [other])
        self.assertEqual(self.rows(a, state="waiting")[other]["holders"], [])
        self.assertEqual(self.rows(a, state="held")[other]["waiters"], [])
        self.assertEqual(len(self.rows(a, session=session)[self.path]["holders"]), 1)
        self.assertEqual(self.rows(a, pid=1), {})
        self.assertEqual(self.rows(a, path="/no/such/file"), {})

    def test_a_file_keeps_the_name_it_was_first_shown_by(self):
        c = self.client()
        c.lock(self.path, EX)
        self.assertEqual(list(self.rows(c)), [self.path])
        os.unlink(self.path)
        self.assertEqual(list(self.rows(c)), [self.path])

    def test_a_walk_in_pages_meets_every_steady_lock_once(self):
        steady, moving = self.client(), self.client()
        wanted = {self.daemon.file(f"s{i}") for i in range(300)}
        for f in sorted(wanted):
            steady.lock(f, EX)
        for i in range(500):
            steady.lock(self.path, SH, handle=i)  # one file with many holders
        seen, after, pages = [], None, 0
        while True:
            page = moving.call("list", {"limit": 7, **({"after": after} if after else {})})
            seen += [(f["path"], h["handle"]) for f in page["locks"] for h in f["holders"] if h["handle"] != 7777]
            pages += 1
            f = self.daemon.file(f"m{pages % 5}")  # others come and go meanwhile
            moving.call("unlock", {"path": f, "handle": 7777})
            moving.lock(f, EX, handle=7777)
            after = page.get("next")
            if after is None:
                break
        self.assertEqual(len(seen), len(set(seen)))
        self.assertEqual(set(seen), {(f, 0) for f in wanted} | {(self.path, i) for i in range(500)})
        self.assertGreater(pages, 800 // 7)

    def test_a_page_is_at_most_half_a_mebibyte(self):
        c = self.client()
        for i in range(4000):
            c.send("lock", {"path": self.path, "flags": [SH], "handle": i}, id=None)
        c.ping()
        c.send("list", {"limit": 4000})
        while b"\n" not in c.buffer:
            c.buffer += c.socket.recv(1 << 20)
        self.assertLess(len(c.buffer), 512 << 10)
        self.assertIn(b'"next":', c.buffer)
        page = c.line()["result"]["locks"][0]["holders"]
        self.assertGreater(len(page), 2000)


class Pages(DaemonTest):
    def walk(self, client, **params):
        """All pages of a list, and the bytes of each."""
        pages, sizes, after = [], [], None
        while True:
            id = client.send("list", {"outside": False, **params, **({"after": after} if after else {})})
            while b"\n" not in client.buffer:
                client.buffer += client.socket.recv(1 << 20)
            sizes.append(client.buffer.index(b"\n") + 1)
            pages.append(client.reply(id))
            after = pages[-1].get("next")
            if after is None:
                return pages, sizes

    def locks(self, page):
        return [h["lock"] for f in page["locks"] for h in f["holders"]]

    def test_a_late_co_holder_is_not_lost(self):
        a, b, c = self.client(), self.client(), self.client()
        fd = self.open()
        a.lock(self.path, SH, fd)
        b.lock(self.path, SH)
        c.lock(self.path, SH, fd)  # with the token of the first, behind the second
        whole = self.locks(a.call("list", {"path": self.path, "outside": False}))
        self.assertEqual(len(whole), 3)
        for params in ({"path": self.path}, {}):
            pages, _ = self.walk(a, limit=1, **params)
            self.assertEqual([self.locks(p) for p in pages], [[lock] for lock in whole])

    def test_co_holders_keep_to_the_limits_too(self):
        fd = self.open()
        label = "/" + "\x01" * 4000  # six times as long in JSON
        wanted = [self.client().lock(label, SH, fd)["lock"] for _ in range(300)]
        c = self.client()
        pages, sizes = self.walk(c, limit=10)
        self.assertEqual([len(self.locks(p)) for p in pages], [10] * 30)
        self.assertEqual([lock for p in pages for lock in self.locks(p)], wanted)
        pages, sizes = self.walk(c, limit=4000)
        self.assertEqual([lock for p in pages for lock in self.locks(p)], wanted)
        self.assertLessEqual(max(sizes), 512 << 10)
        self.assertGreater(min(sizes[:-1]), (512 << 10) - 30000)  # and no page is cut too early

    def test_rows_are_counted_whatever_they_are(self):
        c = self.client(concurrent=True)
        for n in range(2):
            c.lock(self.path, SH, handle=n)
            self.outsider(mode=fcntl.LOCK_SH)
        for n in range(2, 4):
            c.start_lock(self.path, EX, handle=n)
        pages, _ = self.walk(self.client(), path=self.path, outside=True, limit=1)
        rows = [tuple(len(f[k]) for k in ("holders", "waiters", "outside")) for p in pages for f in p["locks"]]
        self.assertEqual(rows, [(1, 0, 0)] * 2 + [(0, 1, 0)] * 2 + [(0, 0, 1)] * 2)

    def test_a_filter_that_matches_little_is_answered_in_pages_too(self):
        crowd, one, c = self.client(), self.client(), self.client()
        for i in range(25000):
            crowd.send("lock", {"path": self.path, "flags": [SH], "handle": i}, id=None)
        crowd.ping()
        wanted = one.lock(self.path, SH)["lock"]
        session = c.call("list", {"path": self.path, "limit": 1})["locks"][0]["holders"][0]["session"]
        for params in ({"path": self.path}, {}):
            pages, _ = self.walk(c, session=1, **params)
            self.assertEqual([p["locks"] for p in pages], [[], []])
        pages, _ = self.walk(c, limit=4000)
        seen = [(h["lock"], h["session"]) for p in pages for f in p["locks"] for h in f["holders"]]
        self.assertEqual(len(seen), 25001)
        (mine,) = {s for _, s in seen if s != session}
        pages, _ = self.walk(c, session=mine)
        self.assertEqual([self.locks(p) for p in pages], [[], [wanted]])


class Outside(DaemonTest):
    def outside(self, client):
        return [(o["pid"], o["mode"]) for f in client.call("list", {"path": self.path})["locks"] for o in f["outside"]]

    def await_outside(self, client, wanted):
        """Until the list has it: what was seen of the system is kept for a second."""
        deadline = time.monotonic() + PATIENCE
        while self.outside(client) != wanted:
            self.assertLess(time.monotonic(), deadline)

    def test_what_we_have_released_is_not_outside(self):
        c = self.client()
        for fd, mode in ((None, EX), (self.open(), SH)):
            lock = c.lock(self.path, mode, fd)["lock"]
            time.sleep(1.1)  # what was seen is old enough: the next list looks anew, and sees it
            self.assertEqual(self.outside(c), [])
            c.unlock(lock)
            self.assertEqual(self.outside(c), [])
            self.outsider(mode=fcntl.LOCK_SH)
            self.assertEqual(c.busy(self.path, EX_NB).data["holders"], [])  # it was not seen yet
            self.close(self.fds[-1])

    def test_what_is_held_outside_after_us_is_shown(self):
        c = self.client()
        lock = c.lock(self.path, EX)["lock"]
        self.assertEqual(self.outside(c), [])
        c.unlock(lock)
        self.outsider()
        self.await_outside(c, [(os.getpid(), EX)])
        self.assertEqual([(h["pid"], h["mode"]) for h in c.busy(self.path, EX_NB).data["holders"]], [(os.getpid(), EX)])

    def test_what_has_outlived_its_session_is_shown(self):
        a, c = self.client(), self.client()
        a.lock(None, EX, self.open())
        self.assertEqual(self.outside(c), [])
        a.close()  # closed, never unlocked: it is still ours to hold, and no more the daemon's
        self.await_outside(c, [(os.getpid(), EX)])

    def test_whoever_is_shown_outside_can_hold_it_beside_us(self):
        c = self.client()
        fd = self.outsider()
        self.assertEqual(self.outside(c), [(os.getpid(), EX)])
        fcntl.flock(fd, fcntl.LOCK_UN)
        for mode in (SH, EX):
            c.lock(self.path, mode)
            self.assertEqual(self.outside(c), [])

    def test_a_wait_looks_outside_only_if_it_is_for_an_outsider(self):
        a, b = self.client(), self.client()
        self.outsider("other")
        other = self.daemon.file("other")
        a.lock(self.path, EX)
        b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            self.assertEqual(a.busy(other, EX_NB).data["holders"], [])
        b.start_lock(other, EX)
        until = time.monotonic() + PATIENCE
        while a.busy(other, EX_NB).data["holders"] == []:
            self.assertLess(time.monotonic(), until)


class Commands(DaemonTest):
    def reads(self):
        with open(f"/proc/{self.daemon.process.pid}/io") as f:
            return int(dict(line.split(": ") for line in f)["syscr"])

    def test_holders_are_not_looked_up_anew_each_time_they_are_named(self):
        for i in range(16):
            self.client().lock(self.path, SH)
        c = self.client()
        c.busy(self.path, EX_NB)
        before = self.reads()
        began = time.monotonic()
        for _ in range(200):
            self.assertEqual(len(c.busy(self.path, EX_NB).data["holders"]), 16)
        self.assertLess(self.reads() - before, 16 * (time.monotonic() - began + 1) + 50)

    def test_nobody_is_looked_through_for_a_lock_that_is_known(self):
        """The descriptors of all processes are looked at for what outlived its session, and for nothing else."""
        for i in range(500):
            self.open("other")
        c = self.client()
        fd = self.open()
        lock = c.lock(self.path, SH, fd)["lock"]
        self.outsider(mode=fcntl.LOCK_SH)
        deadline = time.monotonic() + PATIENCE
        looked = 0
        while not 3 <= looked < 200:  # 3: it was a look, and not the last one's answer. Others' locks cost a read each: more of them may be there just now
            self.assertLess(time.monotonic(), deadline, looked)
            before = self.reads()
            (f,) = c.call("list", {"path": self.path})["locks"]
            self.assertEqual([o["pid"] for o in f["outside"]], [os.getpid()])
            looked = self.reads() - before
        before = self.reads()
        c.unlock(lock, close=True)  # now it is nobody's
        deadline = time.monotonic() + PATIENCE
        while [o["pid"] for o in c.call("list", {"path": self.path})["locks"][0]["outside"]] != [os.getpid()] * 2:
            self.assertLess(time.monotonic(), deadline)
        self.assertGreater(self.reads() - before, 500)


class Commands(DaemonTest):
    """What a client is called is looked up a moment after it came, or when it is shown."""

    options = ["--log-level", "debug"]

    def await_named(self, count):
        def named():
            return re.findall(r"event=session_named session=(\d+) .*command=\"?python", self.daemon.log())

        deadline = time.monotonic() + PATIENCE
        while len(named()) < count and time.monotonic() < deadline:
            self.client_to_pass_time.ping()
        return named()

    def setUp(self):
        super().setUp()
        self.client_to_pass_time = self.client()

    @needs("fork and connections that are inherited")
    def test_whoever_ends_and_leaves_its_connection_to_a_child_keeps_its_name(self):
        go, release = os.pipe(), os.pipe()
        parent = os.fork()
        if parent == 0:
            try:
                c = self.daemon.connect()
                c.lock(self.path, EX)
                os.close(release[1])
                os.read(release[0] if os.fork() == 0 else go[0], 1)
            finally:
                os._exit(0)
        os.close(release[0])
        self.addCleanup(os.close, release[1])
        self.assertEqual(len(self.await_named(2)), 2)
        os.write(go[1], b"x")
        os.waitpid(parent, 0)
        (holder,) = self.rows(self.client_to_pass_time)[self.path]["holders"]
        self.assertEqual(holder["pid"], parent)
        self.assertTrue(holder["command"].startswith("python"), holder)
        for fd in go:
            os.close(fd)

    def test_one_that_goes_on_under_its_old_id_gets_its_name(self):
        c = self.client()
        id = c.call("hello", {})["session"]
        self.assertIn(str(id), self.await_named(2))
        c.close()
        c = self.client()
        while c.call("hello", {"session": id})["session"] != id:  # its end is not noticed yet
            c.close()
            c = self.client()
        self.client()  # it came later, and is looked at later
        self.assertEqual(self.await_named(4).count(str(id)), 2)

    def test_more_than_256_at_once_all_get_their_names(self):
        self.assertEqual(len(self.await_named(1)), 1)
        os.kill(self.daemon.process.pid, signal.SIGSTOP)
        crowd = [self.client() for _ in range(257)]
        os.kill(self.daemon.process.pid, signal.SIGCONT)
        named = self.await_named(1 + len(crowd))
        self.assertEqual(len(named), 1 + len(crowd))
        self.assertEqual(len(set(named)), len(named))


if __name__ == "__main__":
    unittest.main()
