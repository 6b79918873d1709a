"""Locks by descriptors that clients pass: the open file description is the owner."""

import fcntl
import os
import signal
import unittest

from wire import DaemonTest, is_free

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"


class ByDescriptor(DaemonTest):
    def test_the_description_is_the_owner(self):
        a, b = self.client(), self.client()
        fd = self.open()
        first = a.lock(None, EX, fd)
        self.assertEqual(a.lock(None, EX, fd)["lock"], first["lock"])
        self.assertEqual(a.lock(None, EX, fd, handle=5)["lock"], first["lock"])
        a.busy(None, EX_NB, self.open())
        co = b.lock(None, EX, fd)
        self.assertEqual(co["token"], first["token"])
        a.unlock(first["lock"])
        self.assertFalse(is_free(self.path))  # b still holds it with us
        b.unlock(co["lock"])
        self.assertTrue(is_free(self.path))

    def test_a_closed_session_closes_and_never_unlocks(self):
        a, b = self.client(), self.client()
        fd = self.open()
        a.lock(None, EX, fd)
        a.close()
        b.ping()
        self.assertFalse(is_free(self.path))
        fcntl.flock(fd, fcntl.LOCK_UN)
        b.lock(self.path, EX, timeout_ms=20000)

    def test_unlock_close_leaves_the_lock_to_our_own_descriptor(self):
        c = self.client()
        fd = self.open()
        lock = c.lock(None, EX, fd)["lock"]
        self.assertTrue(c.unlock(lock, close=True))
        self.assertFalse(is_free(self.path))
        self.close(fd)
        self.assertTrue(is_free(self.path))

    def test_detached_it_lives_with_the_description(self):
        c = self.client()
        fd = self.open()
        r = c.lock(None, EX, fd, detach=True)
        self.assertIsNone(r["lock"])
        self.assertFalse(is_free(self.path))
        (f,) = c.call("list", {"path": self.path})["locks"]
        self.assertEqual((f["holders"], [o["mode"] for o in f["outside"]]), ([], ["LOCK_EX"]))
        self.assertEqual(c.lock(None, SH, fd, detach=True)["mode"], "LOCK_SH")  # a downgrade of what it bears
        self.assertTrue(is_free(self.path, fcntl.LOCK_SH))
        self.close(fd)
        self.assertTrue(is_free(self.path))

    def test_a_refused_request_makes_nobody_a_co_holder(self):
        a, b, c = self.client(), self.client(), self.client()
        fd = self.open()
        first = a.lock(None, SH, fd)["lock"]
        other = c.lock(self.path, SH)["lock"]
        b.busy(None, EX_NB, fd)
        (f,) = a.call("list", {"path": self.path, "outside": False})["locks"]
        self.assertEqual([h["lock"] for h in f["holders"]], [first, other])
        a.unlock(first)
        c.unlock(other)
        self.assertTrue(is_free(self.path))

    def test_a_refused_request_leaves_a_detached_lock_as_it_was(self):
        a, b = self.client(), self.client()
        fd = self.open()
        a.lock(None, SH, fd, detach=True)
        lock = b.lock(self.path, SH)["lock"]
        a.busy(None, EX_NB, fd, detach=True)
        a.busy(None, EX_NB, fd)
        self.assertEqual(a.refusal(a.start_lock(None, EX, fd, timeout_ms=20)).code, 2)
        b.unlock(lock)
        self.assertFalse(is_free(self.path))
        self.assertTrue(is_free(self.path, fcntl.LOCK_SH))
        self.close(fd)
        self.assertTrue(is_free(self.path))

    def test_a_lock_that_is_detached_by_locking_again_leaves_the_books(self):
        c = self.client()
        other, fd = self.open("other"), self.open()
        older = c.lock("/label", EX, other)["lock"]
        for _ in range(3):
            c.lock("/label", EX, fd)
            self.assertIsNone(c.lock("/label", EX, fd, detach=True)["lock"])
        self.assertTrue(c.call("unlock", {"path": "/label"})["released"])  # the older one: the only one of that label
        self.assertFalse(c.unlock(older))
        self.assertFalse(is_free(self.path))

    def test_what_bears_the_lock_already_does_not_queue_behind_its_waiters(self):
        a, b = self.client(), self.client()
        fd = self.outsider()
        id = a.start_lock(self.path, EX)
        self.await_waiting(b, self.path, 1)
        lock = b.lock(None, EX, fd)["lock"]  # at once
        b.unlock(lock)
        a.reply(id)

    def test_the_label_names_it_for_unlock(self):
        c = self.client()
        fd = self.open()
        c.lock("/some label", EX, fd)
        self.assertTrue(c.call("unlock", {"path": "/some label"})["released"])
        self.assertTrue(is_free(self.path))
        c.lock("/some label", EX, fd)
        self.assertTrue(c.call("unlock", {"path": self.path})["released"])  # else by identity

    def test_what_cannot_be_opened_by_path_is_still_known_by_it(self):
        c = self.client()
        fifo = self.daemon.file("fifo")
        os.mkfifo(fifo)
        fd = self.open("fifo")
        c.lock("/some label", EX, fd)
        (f,) = c.call("list", {"path": fifo})["locks"]
        self.assertEqual((f["path"], len(f["holders"])), (fifo, 1))
        self.assertEqual(c.refusal(c.start_lock(fifo, EX)).code, 7)  # opening alone can have effects
        self.assertTrue(c.call("unlock", {"path": fifo})["released"])
        self.assertTrue(is_free(fifo))
        self.assertEqual(c.call("list", {"path": "/dev/null"})["locks"], [])

    def test_a_lock_survives_the_daemon(self):
        fd = self.open()
        self.client().lock(None, EX, fd)
        self.daemon.process.kill()
        self.daemon.wait()
        self.assertFalse(is_free(self.path))
        self.close(fd)
        self.assertTrue(is_free(self.path))

    def tearDown(self):
        if self.daemon.process.poll() == -signal.SIGKILL:
            self.daemon.stop()
            return
        super().tearDown()


if __name__ == "__main__":
    unittest.main()
