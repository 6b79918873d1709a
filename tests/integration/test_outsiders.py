"""Programs that lock the same files without the daemon."""

import fcntl
import os
import statistics
import threading
import unittest

from wire import DaemonTest, is_free

EX, SH, EX_NB, SH_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB", "LOCK_SH|LOCK_NB"


class Outsiders(DaemonTest):
    def test_they_are_respected_and_named(self):
        fd = self.outsider()
        c = self.client()
        c.busy(self.path, SH_NB)
        id = c.start_lock(self.path, EX, notify=True)
        n = c.notification("waiting")
        self.assertEqual((n["id"], n["position"]), (id, 1))
        (f,) = c.call("list", {"path": self.path})["locks"]
        self.assertEqual([(o["pid"], o["mode"]) for o in f["outside"]], [(os.getpid(), "LOCK_EX")])
        self.assertEqual([w["position"] for w in f["waiters"]], [1])
        fcntl.flock(fd, fcntl.LOCK_UN)
        c.reply(id)
        self.assertFalse(is_free(self.path))

    def test_shared_with_outsiders(self):
        self.outsider(mode=fcntl.LOCK_SH)
        c = self.client()
        c.lock(self.path, SH_NB)
        c.busy(self.path, EX_NB)
        self.assertTrue(is_free(self.path, fcntl.LOCK_SH))
        c.busy(self.path, EX_NB)  # and its SH is still there

    def test_cancel_timeout_and_death_while_waiting_leave_no_ghost(self):
        fd = self.outsider()
        a, b, c = self.client(), self.client(), self.client()
        id = a.start_lock(self.path, EX)
        timed = b.start_lock(self.path, EX, timeout_ms=50)
        c.start_lock(self.path, EX)
        self.assertEqual(b.refusal(timed).code, 2)
        self.assertTrue(a.call("cancel", {"id": id})["cancelled"])
        self.assertIn(id, a.replies)  # its answer came first
        self.assertEqual(a.refusal(id).code, 4)
        self.assertFalse(a.call("cancel", {"id": id})["cancelled"])
        c.close()
        self.await_waiting(a, self.path, 0)
        fcntl.flock(fd, fcntl.LOCK_UN)
        fcntl.flock(fd, fcntl.LOCK_EX)  # nobody of ours takes it in between for good
        fcntl.flock(fd, fcntl.LOCK_UN)
        a.lock(self.path, EX, timeout_ms=5000)

    def test_an_upgrade_waits_for_them_and_keeps_its_shared_lock(self):
        fd = self.outsider(mode=fcntl.LOCK_SH)
        c = self.client()
        c.lock(self.path, SH)
        id = c.start_lock(self.path, EX)
        self.await_waiting(self.client(), self.path, 1)
        self.assertFalse(is_free(self.path))
        fcntl.flock(fd, fcntl.LOCK_UN)
        self.assertEqual(c.reply(id)["mode"], "LOCK_EX")

    def test_an_outsider_that_waits_is_not_starved(self):
        """
        It gets in within 16 hand-overs of a queue that never empties, and two more through the kernel's queue. Five times, for no single time is certain: each of
        these hand-overs wakes it, and where the processors are busy it may be long in coming back to the queue.
        """
        clients = [self.client() for _ in range(3)]
        held = clients[0].lock(self.path, EX)["lock"]
        ids = {c: c.start_lock(self.path, EX) for c in clients[1:]}
        owner, counts = clients[0], []
        for _ in range(5):
            owner, held, hand_overs = self.hand_over_until_an_outsider_got_in(owner, held, ids)
            counts.append(hand_overs)
        self.assertLessEqual(statistics.median(counts), 18, counts)

    def hand_over_until_an_outsider_got_in(self, owner, held, ids):
        got_in = threading.Event()

        def outsider():
            fd = os.open(self.path, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            got_in.set()
            os.close(fd)

        t = threading.Thread(target=outsider)
        t.start()
        while not any("->" in line for line in self.waiting_in_the_kernel()):
            pass
        hand_overs = 0
        while not got_in.is_set():
            owner.unlock(held)
            ids[owner] = owner.start_lock(self.path, EX)
            owner = next(iter(ids))  # the one that has asked for longest
            held = owner.reply(ids.pop(owner))["lock"]
            hand_overs += 1
            self.assertLess(hand_overs, 1000)
        t.join()
        return owner, held, hand_overs

    def waiting_in_the_kernel(self):
        inode = os.stat(self.path).st_ino
        with open("/proc/locks") as f:
            return [line for line in f if line.split()[-3].endswith(f":{inode}")]


if __name__ == "__main__":
    unittest.main()
