"""Lock files that are replaced while somebody waits: who follows keeps its place, and nobody keeps one that it did not have."""

import os
import time
import unittest

from wire import PATIENCE, DaemonTest, is_free

EX, SH = "LOCK_EX", "LOCK_SH"

FOLLOW_MS = 1000


class Follow(DaemonTest):
    def replace(self):
        """Another file of that name; its inode is not the old one's, which is open still."""
        os.unlink(self.path)
        return self.open()

    def speaker(self):
        """A client that knows its session."""
        c = self.client()
        c.session = c.call("hello")["session"]
        return c

    def waits(self, fd):
        """A client of its own that waits in the queue of the file by now."""
        c = self.speaker()
        id = c.start_lock(self.path, EX, fd)
        self.place(c)
        time.sleep(0.002)  # ages are milliseconds: the next one is younger
        return c, id

    def place(self, client):
        """Its position, as soon as it waits."""
        deadline = time.monotonic() + PATIENCE
        with self.daemon.connect() as looks:
            while True:
                for f in looks.call("list", {"session": client.session, "outside": False, "state": "waiting"})["locks"]:
                    return f["waiters"][0]["position"]
                self.assertLess(time.monotonic(), deadline)

    def follow(self, client, lock, fd, label=None, mode=EX, waited_ms=0):
        """As the library does: give back, ask for the new one."""
        client.send("unlock", {"lock": lock})
        return client.start_lock(label or self.path, mode, fd, reclaim={"waited_ms": waited_ms})


class Places(Follow):
    def test_who_waited_for_the_old_file_comes_before_who_came_for_the_new_one(self):
        a, h = self.client(), self.client()
        first = a.lock(self.path, EX, self.open())["lock"]
        clients = {}
        for name, by in (("b", "fd"), ("c", "fd"), ("p", "path")):
            clients[name] = self.waits(self.open() if by == "fd" else None)
        self.replace()
        held = h.lock(self.path, EX, self.open())["lock"]
        clients["d"] = self.waits(self.open())
        a.unlock(first)
        for name in ("b", "c"):
            c, id = clients[name]
            clients[name] = c, self.follow(c, c.reply(id)["lock"], self.open())
        # p needs nobody's help, but it is behind c on the old file.
        deadline = time.monotonic() + PATIENCE
        while len(self.rows(h, state="waiting").get(self.path, {"waiters": []})["waiters"]) < 4:
            self.assertLess(time.monotonic(), deadline)
        self.assertEqual([self.place(clients[n][0]) for n in ("b", "c", "p", "d")], [1, 2, 3, 4])
        h.unlock(held)
        for name in ("b", "c", "p", "d"):
            c, id = clients[name]
            c.unlock(c.reply(id)["lock"])
        self.assertTrue(is_free(self.path))

    def test_who_holds_the_new_file_is_not_disturbed_and_waited_ms_counts_from_the_beginning(self):
        a = self.client()
        lock = a.lock(self.path, EX, self.open())["lock"]
        b, id = self.waits(self.open())
        time.sleep(0.05)
        new = self.replace()
        d = self.client()
        held = d.lock(self.path, EX, new)["lock"]
        a.unlock(lock)
        id = self.follow(b, b.reply(id)["lock"], self.open())
        self.assertEqual(self.place(b), 1)
        self.assertTrue(d.unlock(held))
        self.assertGreaterEqual(b.reply(id)["waited_ms"], 50)

    def test_the_time_that_is_left_counts_from_the_second_request(self):
        a = self.client()
        lock = a.lock(self.path, EX, self.open())["lock"]
        b, id = self.waits(self.open())
        time.sleep(0.1)
        new = self.replace()
        self.client().lock(self.path, EX, new)
        a.unlock(lock)
        b.send("unlock", {"lock": b.reply(id)["lock"]})
        began = time.monotonic()
        e = b.refusal(b.start_lock(self.path, EX, self.open(), reclaim={"waited_ms": 100}, timeout_ms=80))
        self.assertEqual(e.code, 2)
        self.assertGreaterEqual(time.monotonic() - began, 0.07)


class Lies(Follow):
    """
    Whatever does not follow waits like anybody new: behind d, who came before it. Each gets a lock on `old`, and asks for `file` then. (It says that it
    has waited for no time at all: what it says is no matter here, while ages are believed for a while after the daemon's start.)
    """

    def setUp(self):
        super().setUp()
        self.client().lock(self.path, EX, self.open())
        self.b, self.d = self.speaker(), self.speaker()

    def old(self, mode=EX, label=None):
        """b is granted a lock after a wait that began before d came."""
        gate = self.client()
        first = gate.lock(None, EX, self.open("old"))["lock"]
        id = self.b.start_lock(label or self.path, mode, self.open("old"))
        self.place(self.b)
        time.sleep(0.002)
        self.d.start_lock(self.path, EX, self.open())
        self.place(self.d)
        gate.unlock(first)
        return self.b.reply(id)["lock"]

    def test_what_follows_has_its_place(self):
        self.follow(self.b, self.old(), self.open())
        self.assertEqual((self.place(self.b), self.place(self.d)), (1, 2))

    def test_a_wait_with_what_another_session_holds_counts_once(self):
        """Its record begins when it asks, not with the grant: the wait is no part of the time before that."""
        a, other = self.client(), self.client()
        fd = self.open("old")
        a.lock(None, SH, fd)
        shared = other.lock(None, SH, self.open("old"))["lock"]
        self.d.start_lock(self.path, EX, self.open())
        self.place(self.d)
        time.sleep(0.002)
        id = self.b.start_lock(self.path, EX, fd)
        self.place(self.b)
        time.sleep(0.3)  # less than a follower's second
        other.unlock(shared)
        self.follow(self.b, self.b.reply(id)["lock"], self.open())
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_another_label(self):
        self.follow(self.b, self.old(), self.open(), label="/another")
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_another_mode(self):
        self.follow(self.b, self.old(mode=SH), self.open())
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_another_session(self):
        lock, other = self.old(), self.speaker()
        self.b.unlock(lock)
        other.start_lock(self.path, EX, self.open(), reclaim={"waited_ms": 0})
        self.assertEqual((self.place(other), self.place(self.d)), (2, 1))

    def test_without_saying_so(self):
        self.b.unlock(self.old())
        self.b.start_lock(self.path, EX, self.open())
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_only_the_next_request(self):
        self.b.unlock(self.old())
        self.b.lock(self.daemon.file("third"), EX)
        self.b.start_lock(self.path, EX, self.open(), reclaim={"waited_ms": 0})
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_too_late(self):
        self.b.unlock(self.old())
        time.sleep(FOLLOW_MS / 1000 + 0.05)
        self.b.start_lock(self.path, EX, self.open(), reclaim={"waited_ms": 0})
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))

    def test_a_lock_that_was_held_and_not_only_seen(self):
        lock = self.old()
        time.sleep(FOLLOW_MS / 1000 + 0.05)
        self.follow(self.b, lock, self.open())
        self.assertEqual((self.place(self.b), self.place(self.d)), (2, 1))


class Races(Follow):
    def test_a_file_that_is_replaced_again_and_again_is_refused_and_never_granted_stale(self):
        w, h = self.client(), self.client()
        held = h.lock(self.path, EX, self.open())["lock"]
        id = w.start_lock(self.path, EX)
        self.await_waiting(h, self.path, 1)
        for _ in range(5000):
            fd = self.open("next")
            lock = h.lock(None, EX, fd)["lock"]
            os.rename(self.daemon.file("next"), self.path)
            h.unlock(held)
            held = lock
            self.close(self.fds[-2])
            if not w.is_silent():
                break
        e = w.refusal(id)
        self.assertEqual((e.code, e.data["errno"]), (7, "ESTALE"))
        self.assertEqual(h.call("stats")["counters"]["reopened"], 1000)
        self.assertFalse(is_free(self.path))
        self.assertTrue(h.unlock(held))
        w.lock(self.path, EX)

    def replaced_by(self, make, **more):
        a, b = self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        id = b.start_lock(self.path, EX, **more)
        self.await_waiting(a, self.path, 1)
        os.unlink(self.path)
        make(self.path)
        a.unlock(lock)
        return b, id

    def test_by_a_folder(self):
        b, id = self.replaced_by(os.mkdir)
        b.reply(id)
        (f,) = b.call("list", {"path": self.path})["locks"]
        self.assertEqual((f["inode"], len(f["holders"])), (str(os.stat(self.path).st_ino), 1))

    def test_by_a_link_to_another_file(self):
        self.open("target")
        b, id = self.replaced_by(lambda path: os.symlink("target", path))
        b.reply(id)
        self.assertFalse(is_free(self.daemon.file("target")))

    def test_by_a_link_to_nothing(self):
        b, id = self.replaced_by(lambda path: os.symlink("target", path), create=False)
        self.assertEqual(b.refusal(id).data["errno"], "ENOENT")
        b.lock(self.path, EX)  # made, where the link leads
        self.assertFalse(is_free(self.daemon.file("target")))

    def test_by_what_cannot_be_locked(self):
        b, id = self.replaced_by(os.mkfifo)
        self.assertEqual(b.refusal(id).data["errno"], "ENOTSUP")


if __name__ == "__main__":
    unittest.main()
