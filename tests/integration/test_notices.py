"""Who waits is told what changes, and who holds that it has lost it."""

import fcntl
import os
import time
import unittest

from wire import DaemonTest

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"


class Notices(DaemonTest):
    def test_notify_tells_position_and_holders_at_once_and_on_change(self):
        a, b, c = self.client(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        first = b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        id = c.start_lock(self.path, EX, notify=True)
        n = c.notification("waiting")
        self.assertEqual((n["id"], n["position"], n["holders"][0]["pid"]), (id, 2, os.getpid()))
        a.unlock(lock)
        n = c.notification("waiting")
        self.assertEqual(n["position"], 1)
        b.unlock(b.reply(first)["lock"])
        c.reply(id)
        self.assertTrue(c.is_silent())
        self.assertEqual(c.notifications, [])

    def waits_second(self, holders=(), **more):
        """Somebody holds, somebody waits (`more`: how), and behind that one another who wants to know: all three, and the ids of the waiting requests."""
        a, b, c = self.client(), self.client(), self.client()
        a.lock(self.path, SH)
        for h in holders:
            h.lock(self.path, SH)
        first = b.start_lock(self.path, EX, **more)
        self.await_waiting(a, self.path, 1)
        id = c.start_lock(self.path, EX, notify=True)
        self.assertEqual(c.notification("waiting")["position"], 2)
        return a, b, c, first, id

    def await_notice(self, client, **wanted):
        """Until one says so: the notices in between are changes of their own. `holders`: how many of the daemon's."""
        while True:
            n = client.notification("waiting")
            n["holders"] = sum("lock" in h for h in n["holders"])
            if all(n[k] == v for k, v in wanted.items()):
                return

    def test_a_waiter_before_that_dies_is_told(self):
        _, b, c, _, _ = self.waits_second()
        b.close()
        self.await_notice(c, position=1)

    def test_a_waiter_before_that_times_out_is_told(self):
        _, b, c, first, _ = self.waits_second(timeout_ms=300)
        self.assertEqual(b.refusal(first).code, 2)
        self.await_notice(c, position=1)

    def test_an_upgrade_that_comes_before_is_told(self):
        d = self.client()
        a, _, c, _, _ = self.waits_second([d])
        a.start_lock(self.path, EX)
        self.await_notice(c, position=3)

    def test_a_sharer_that_hangs_up_is_told(self):
        d = self.client()
        _, _, c, _, _ = self.waits_second([d])
        d.close()
        self.await_notice(c, holders=1)

    def test_a_loss_is_told(self):
        a, b, c = self.client(), self.client(), self.client()
        fd = self.open()
        a.lock(None, SH, fd)
        b.lock(self.path, SH)
        c.start_lock(self.path, EX, notify=True)
        self.assertEqual(len(c.notification("waiting")["holders"]), 2)
        b.call("unlock", {"path": self.path})
        self.await_notice(c, holders=1)
        fcntl.flock(fd, fcntl.LOCK_UN)  # behind the daemon's back ...
        self.outsider()  # ... so that the conversion finds the lock gone
        self.assertEqual(a.refusal(a.start_lock(None, EX, fd)).code, 5)
        self.assertEqual(a.notification("lost")["by"], "outside")
        self.await_notice(c, holders=0)

    def test_at_most_five_notices_a_second_and_the_last_change_always(self):
        a, c = self.client(concurrent=True), self.client()
        a.lock(self.path, EX)
        ids = [a.start_lock(self.path, EX, handle=i) for i in range(1, 41)]
        self.await_waiting(self.client(), self.path, 40)
        id = c.start_lock(self.path, EX, notify=True)
        self.assertEqual(c.notification("waiting")["position"], 41)
        began = time.monotonic()
        for i in ids:
            a.call("cancel", {"id": i})
        told = 0
        while c.notification("waiting")["position"] != 1:
            told += 1
        took = time.monotonic() - began
        self.assertLessEqual(told, took * 5 + 1)
        self.assertEqual(c.call("cancel", {"id": id}), {"cancelled": True})

    def test_nothing_is_told_twice(self):
        a, b, c = self.client(), self.client(), self.client()
        a.lock(self.path, EX)
        c.start_lock(self.path, EX, notify=True)
        self.assertEqual(c.notification("waiting")["position"], 1)
        for _ in range(5):
            b.busy(self.path, EX_NB)  # neither the queue nor the holders have changed
            time.sleep(0.1)
        c.ping()
        self.assertEqual(c.notifications, [])

    def test_each_file_has_an_audience_of_its_own(self):
        holder, others, c, d = (self.client(concurrent=True) for _ in range(4))
        other = self.daemon.file("other")
        lock = holder.lock(self.path, EX)["lock"]
        others.lock(other, EX)
        first = others.start_lock(other, EX, handle=1)
        others.ping()
        ids = [c.start_lock(p, EX, handle=i, notify=True) for p, i in ((self.path, 1), (self.path, 2), (other, 3))]
        told = {n["id"]: n["position"] for n in (c.notification("waiting") for _ in ids)}
        self.assertEqual(told, {ids[0]: 1, ids[1]: 2, ids[2]: 2})
        others.call("cancel", {"id": first})
        n = c.notification("waiting")
        self.assertEqual((n["id"], n["position"]), (ids[2], 1))
        holder.unlock(lock)
        c.reply(ids[0])
        n = c.notification("waiting")
        self.assertEqual((n["id"], n["position"], n["holders"][0]["handle"]), (ids[1], 1, 1))
        c.close()
        self.await_waiting(d, self.path, 0)
        self.await_waiting(d, other, 0)

    def test_an_outsider_is_named_as_soon_as_it_is_known(self):
        c = self.client()
        c.call("list")  # what was seen is kept for a second
        self.outsider()
        c.start_lock(self.path, EX, notify=True)
        self.assertEqual(c.notification("waiting")["holders"], [])
        n = c.notification("waiting")
        self.assertEqual([(h["pid"], h["mode"]) for h in n["holders"]], [(os.getpid(), "LOCK_EX")])

    def test_a_wish_to_be_told_costs_nobody_else(self):
        holder, crowd, c, d = (self.client(concurrent=True) for _ in range(4))
        other, n = self.daemon.file("other"), 20000
        holder.lock(self.path, EX)
        for i in range(n):
            crowd.send("lock", {"path": self.path, "flags": [EX], "handle": i}, id=None)
        crowd.ping()
        self.assertEqual(holder.call("stats")["gauges"]["waiting"], n)

        def fastest():
            times = []
            for _ in range(50):
                began = time.perf_counter()
                c.busy(self.path, EX_NB)
                times.append(time.perf_counter() - began)
            return min(times)

        before = fastest()
        holder.lock(other, EX)
        d.start_lock(other, EX, notify=True)
        d.notification("waiting")
        self.assertLess(fastest(), before * 4 + 0.0002)

    def test_a_lost_lock_is_told_when_the_daemon_stops(self):
        a, b, c = self.client(), self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        id = c.start_lock(self.path, EX)
        self.await_waiting(b, self.path, 1)
        e = b.refuse("stop")
        self.assertEqual(e.code, 6)  # a lock by path is held
        b.call("stop", {"force": True})
        n = a.notification("lost")
        self.assertEqual((n["lock"], n["path"]), (lock, self.path))
        self.assertEqual(c.refusal(id).code, 9)
        self.assertEqual(self.daemon.wait(), 0)


if __name__ == "__main__":
    unittest.main()
