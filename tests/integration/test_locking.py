"""Locks by path as their users meet them: real files, their names, order and fairness."""

import fcntl
import json
import os
import time
import unittest

from wire import DaemonTest, Refused, is_free

EX, SH, EX_NB, SH_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB", "LOCK_SH|LOCK_NB"


class ByPath(DaemonTest):
    def test_the_kernel_knows_every_lock(self):
        c = self.client()
        lock = c.lock(self.path, EX)["lock"]
        self.assertFalse(is_free(self.path, fcntl.LOCK_SH))
        self.assertTrue(c.unlock(lock))
        self.assertTrue(is_free(self.path))
        c.lock(self.path, SH)
        self.assertTrue(is_free(self.path, fcntl.LOCK_SH))
        self.assertFalse(is_free(self.path))

    def test_a_refusal_names_the_holder(self):
        a, b = self.client(), self.client()
        a.lock(self.path, EX)
        e = b.busy(self.path, EX_NB)
        (h,) = e.data["holders"]
        self.assertEqual((h["pid"], h["mode"], h["uid"]), (os.getpid(), "LOCK_EX", os.getuid()))
        self.assertEqual(e.data["name"], "LOCK_FAILED")
        self.assertIn("held_ms", h)

    def test_timeout_zero_is_nonblocking_and_nb_wins_over_a_timeout(self):
        a, b = self.client(), self.client()
        a.lock(self.path, EX)
        b.busy(self.path, EX, timeout_ms=0)
        b.busy(self.path, EX_NB, timeout_ms=60000)

    def test_a_timeout_names_the_holder_and_comes_in_time(self):
        a, b = self.client(), self.client()
        a.lock(self.path, EX)
        began = time.monotonic()
        e = b.refusal(b.start_lock(self.path, EX, timeout_ms=100))
        took = time.monotonic() - began
        self.assertEqual(e.code, 2)
        self.assertEqual(e.data["holders"][0]["pid"], os.getpid())
        self.assertTrue(0.095 <= took < 1.0, took)

    def test_relock_upgrade_and_downgrade(self):
        a, b = self.client(), self.client()
        first = a.lock(self.path, SH)
        self.assertEqual(a.lock(self.path, SH), {**first, "waited_ms": 0})
        up = a.lock(self.path, EX)
        self.assertEqual(up["lock"], first["lock"])
        self.assertGreater(up["token"], first["token"])
        b.busy(self.path, SH_NB)
        down = a.lock(self.path, SH)
        self.assertEqual((down["token"], down["mode"]), (up["token"], "LOCK_SH"))
        b.lock(self.path, SH_NB)
        a.busy(self.path, EX_NB)  # b shares
        b.busy(self.path, EX_NB)  # and a still does
        a.start_lock(self.path, EX)
        self.await_waiting(b, self.path, 1)
        self.assertEqual(b.refusal(b.start_lock(self.path, EX)).code, 3)

    def test_handles_are_open_files_of_their_own(self):
        c = self.client()
        c.lock(self.path, EX)
        c.busy(self.path, EX_NB, handle=1)
        c.lock(self.path, SH)
        c.lock(self.path, SH, handle=1)
        self.assertTrue(c.call("unlock", {"path": self.path, "handle": 1})["released"])
        self.assertFalse(c.call("unlock", {"path": self.path, "handle": 1})["released"])
        self.assertTrue(c.call("unlock", {"path": self.path})["released"])

    def test_every_name_of_a_file_is_the_same_lock(self):
        a, b = self.client(), self.client()
        a.lock(self.path, EX)
        link = self.daemon.file("link")
        os.link(self.path, link)
        os.symlink(self.path, self.daemon.file("symlink"))
        for name in (link, self.daemon.file("symlink"), self.daemon.folder + "/./file", self.daemon.folder + "//file"):
            b.busy(name, EX_NB)
            self.assertLess(a.lock(name, EX)["waited_ms"], 100)  # at once, but for a loaded machine
        self.assertTrue(a.call("unlock", {"path": link})["released"])  # by identity
        b.lock(self.path, EX_NB)

    def test_unlock_of_what_is_not_ones_own_releases_nothing(self):
        a, b = self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        self.assertFalse(b.unlock(lock))
        self.assertFalse(b.unlock(12345))
        self.assertFalse(b.call("unlock", {"path": self.path})["released"])
        self.assertFalse(b.call("unlock", {"path": "/no/such/file"})["released"])
        self.assertFalse(is_free(self.path))

    def test_create_false(self):
        c = self.client()
        e = c.refusal(c.start_lock(self.path, EX, create=False))
        self.assertEqual((e.code, e.data["errno"], e.data["syscall"]), (7, "ENOENT", "open"))
        self.assertIn(self.path, e.message)
        self.assertFalse(os.path.exists(self.path))

    def test_directories_and_what_cannot_be_opened(self):
        c = self.client()
        c.lock(self.daemon.folder, EX)
        e = c.refusal(c.start_lock(self.daemon.file("no/such/folder"), EX))
        self.assertEqual(e.data["errno"], "ENOENT")
        os.mkfifo(self.daemon.file("fifo"))
        self.assertEqual(c.refusal(c.start_lock(self.daemon.file("fifo"), EX)).code, 7)
        self.assertEqual(c.refusal(c.start_lock("/dev/null", EX)).code, 7)
        loop = self.daemon.file("loop")
        os.symlink(loop, loop)
        self.assertEqual(c.refusal(c.start_lock(loop, EX)).data["errno"], "ELOOP")

    def test_a_thousand_waiters_by_path_need_one_descriptor(self):
        a, b = self.client(), self.client(concurrent=True)
        lock = a.lock(self.path, EX)["lock"]
        before = a.call("stats")["gauges"]["descriptors"]
        ids = [b.start_lock(self.path, EX, handle=i) for i in range(1000)]
        self.await_waiting(a, self.path, 1000)
        self.assertEqual(a.call("stats")["gauges"]["descriptors"], before)
        a.unlock(lock)
        for i in ids:
            b.unlock(b.reply(i)["lock"])

    def test_a_lock_file_that_was_replaced_is_followed(self):
        a, b, c = self.client(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        id = b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        os.unlink(self.path)
        self.open()  # another file of that name
        c.lock(self.path, EX)
        a.unlock(lock)
        self.await_waiting(a, self.path, 1)  # b, on the new file now
        c.close()
        self.assertGreater(b.reply(id)["token"], 0)
        self.assertFalse(is_free(self.path))
        self.assertEqual(a.call("stats")["counters"]["reopened"], 1)

    def test_a_lock_file_that_is_gone_is_made_again_or_reported(self):
        a, b, c = self.client(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        first = b.start_lock(self.path, EX, create=False)
        self.await_waiting(a, self.path, 1)  # sessions have no order among each other
        second = c.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 2)
        os.unlink(self.path)
        a.unlock(lock)
        self.assertEqual(b.refusal(first).data["errno"], "ENOENT")
        c.reply(second)
        self.assertFalse(is_free(self.path))


class AtOnce(DaemonTest):
    def test_no_upgrade_keeps_a_nonblocking_request_waiting(self):
        """While a cancelled wait in the kernel is still ending, a request that may not wait has to; an upgrade gets before it."""

        def line(name, method, **params):
            return json.dumps({"jsonrpc": "2.0", "id": name, "method": method, "params": params}) + "\n"

        c = self.client(concurrent=True)
        lock = c.lock(self.path, EX)["lock"]
        sharers = [c.start_lock(self.path, SH, handle=i) for i in (1, 2)]
        c.unlock(lock)
        for id in sharers:
            c.reply(id)
        time.sleep(0.11)  # a tenth of a second after a hand-over it is the outsiders' turn: the next head waits in the kernel
        head = c.start_lock(self.path, EX, handle=3)
        while c.call("stats")["gauges"]["kernel_waits"] == 0:
            pass
        c.raw(
            line("cancel", "cancel", id=head)
            + line("nonblocking", "lock", path=self.path, flags=SH_NB.split("|"), handle=4)
            + line("upgrade", "lock", path=self.path, flags=[EX], handle=1)
        )
        self.assertEqual(c.refusal(head).code, 4)
        try:
            c.reply("nonblocking")
        except Refused as e:
            self.assertEqual(e.code, 1)
        self.assertTrue(c.call("unlock", {"path": self.path, "handle": 2})["released"])


class Fairness(DaemonTest):
    def test_grants_come_in_the_order_of_asking(self):
        holder = self.client()
        lock = holder.lock(self.path, EX)["lock"]
        clients = [self.client() for _ in range(20)]
        ids = []
        for n, c in enumerate(clients):
            ids.append(c.start_lock(self.path, EX))
            self.await_waiting(holder, self.path, n + 1)
        holder.unlock(lock)
        tokens = []
        for c, id in zip(clients, ids):
            r = c.reply(id)
            tokens.append(r["token"])
            c.unlock(r["lock"])
        self.assertEqual(tokens, sorted(tokens))


if __name__ == "__main__":
    unittest.main()
