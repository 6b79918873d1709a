"""Who would wait for ever is told at once, with the circle; nobody else is."""

import os
import time
import unittest

from wire import DaemonTest

EX, SH, NB = "LOCK_EX", "LOCK_SH", "|LOCK_NB"
SLOW = float(os.environ.get("PORTALOCK_SLOW", "1"))


class Deadlock(DaemonTest):
    def setUp(self):
        super().setUp()
        self.x, self.y, self.z = (self.daemon.file(n) for n in "xyz")

    def refusal(self, client, path, flags=EX, **more):
        """The DEADLOCK that must come within 100 ms; its cycle as (path, mode), or (None, None) for a parent's step."""
        began = time.monotonic()
        e = client.refusal(client.start_lock(path, flags, **more))
        took = time.monotonic() - began
        self.assertEqual((e.code, e.data["name"]), (3, "DEADLOCK"))
        self.assertLess(took, 0.1 * SLOW)
        for step in e.data["cycle"]:
            self.assertEqual((step["pid"], step["uid"]), (os.getpid(), os.getuid()))
            self.assertIn("command", step)
            self.assertEqual("child" in step, "path" not in step)
        return [(s.get("path"), s.get("mode")) for s in e.data["cycle"]]

    def wait(self, client, path, flags=EX, **more):
        """A request that waits."""
        id = client.start_lock(path, flags, **more)
        self.assertTrue(client.is_silent())
        return id

    def test_two_files_in_different_order(self):
        a, b = self.client(), self.client()
        a.lock(self.x, EX)
        lock = b.lock(self.y, EX)["lock"]
        waits = self.wait(a, self.y)
        self.assertEqual(self.refusal(b, self.x), [(self.x, EX), (self.y, EX)])
        rows = self.rows(a)
        self.assertEqual(len(rows[self.y]["holders"]), 1)  # b has kept what it had
        self.assertEqual(rows[self.x]["waiters"], [])
        b.unlock(lock)
        self.assertEqual(a.reply(waits)["mode"], EX)
        self.assertEqual(a.call("stats")["counters"]["deadlocks"], 1)

    def test_by_descriptor_too(self):
        a, b = self.client(), self.client()
        a.lock(None, EX, self.open("x"))
        b.lock(None, EX, self.open("y"))
        self.wait(a, None, fd=self.open("y"))
        self.assertEqual(self.refusal(b, None, fd=self.open("x")), [(self.x, EX), (self.y, EX)])

    def test_three_in_a_circle_and_a_timeout_makes_no_difference(self):
        a, b, c = (self.client() for _ in range(3))
        a.lock(self.x, EX)
        b.lock(self.y, SH)
        c.lock(self.z, EX)
        waits = [self.wait(a, self.y, timeout_ms=600000), self.wait(b, self.z, SH, timeout_ms=600000)]
        self.assertEqual(self.refusal(c, self.x, timeout_ms=1), [(self.x, EX), (self.y, EX), (self.z, SH)])
        c.close()
        b.reply(waits[1])
        b.close()
        a.reply(waits[0])

    def test_those_who_may_not_wait_are_told_that_they_would_have_to(self):
        a, b = self.client(), self.client()
        a.lock(self.x, EX)
        b.lock(self.y, EX)
        self.wait(a, self.y)
        self.assertEqual(b.busy(self.x, EX + NB).code, 1)
        self.assertEqual(b.busy(self.x, EX, timeout_ms=0).code, 1)
        self.assertEqual(b.busy(self.y, SH + NB, handle=1).code, 1)

    def test_one_s_own_lock_and_one_s_own_request(self):
        a, b = self.client(), self.client()
        a.lock(self.x, EX)
        self.assertEqual(self.refusal(a, self.x, handle=1), [(self.x, EX)])
        self.assertEqual(self.refusal(a, None, SH, fd=self.open("x")), [(self.x, SH)])
        self.wait(b, self.x)
        self.assertEqual(self.refusal(b, self.x, SH, handle=1), [(self.x, SH)])

    def test_a_second_upgrade(self):
        a, b, c, d = self.client(), self.client(), self.client(concurrent=True), self.client(concurrent=True)
        for one, other in ((a, b), (c, d)):  # for these also if they do other things meanwhile
            one.lock(self.x, SH)
            other.lock(self.x, SH)
            self.wait(one, self.x)
            self.assertEqual(self.refusal(other, self.x), [(self.x, EX)] * 2)
            self.assertEqual(other.lock(self.x, SH)["mode"], SH)
            one.close()
            other.close()
            self.await_waiting(self.client(), self.x, 0)

    def test_concurrent_sessions_are_in_no_circle(self):
        a, b = self.client(concurrent=True), self.client()
        lock = a.lock(self.x, EX)["lock"]
        b.lock(self.y, EX)
        self.wait(a, self.y)
        self.wait(a, self.x, handle=1)
        waits = self.wait(b, self.x)
        a.unlock(lock)
        c = self.client()
        self.await_waiting(c, self.x, 1)  # a's other handle has it, and is in b's way again
        a.close()
        b.reply(waits)

    def test_a_parent_waits_for_its_child(self):
        p = self.client(parent=0)
        p.lock(self.x, EX)
        c = self.client(parent=p.session)
        g = self.client(parent=c.session)
        self.assertEqual(self.refusal(g, self.x), [(self.x, EX), (None, None), (None, None)])
        g.lock(self.y, EX)
        other = self.client()
        other.lock(self.z, EX)
        self.wait(other, self.x)
        self.assertEqual(self.refusal(g, self.z), [(self.z, EX), (self.x, EX), (None, None), (None, None)])
        c.close()  # the chain is broken: p does not wait for g any more
        self.client().ping()
        waits = self.wait(g, self.z)
        other.close()
        g.reply(waits)

    def test_what_is_no_parent_is_ignored(self):
        p = self.client(concurrent=True)
        p.lock(self.x, EX)
        self.wait(self.client(parent=p.session), self.x)  # it does other things than wait
        c = self.client(parent=(1 << 53) - 1)
        self.wait(c, self.x)
        gone = self.client(parent=0)
        gone.close()
        self.wait(self.client(parent=gone.session), self.x)

    def test_a_child_that_has_ended_is_waited_for_no_more(self):
        p = self.client(parent=0)
        child = self.client(parent=p.session)
        child.lock(self.y, EX)
        child.close()
        p.lock(self.x, EX)
        b = self.client()
        b.lock(self.y, EX)
        waits = self.wait(b, self.x)
        p.close()
        b.reply(waits)

    def test_a_holder_that_joins_is_granted_and_one_who_waits_is_told(self):
        a, b, c = (self.client() for _ in range(3))
        fd = self.open("x")
        a.lock(None, EX, fd)
        c.lock(self.y, EX)
        self.wait(c, self.x)
        waits = self.wait(b, self.y)
        self.assertEqual(b.lock(None, EX, fd)["mode"], EX)
        e = b.refusal(waits)
        self.assertEqual([(s["path"], s["mode"]) for s in e.data["cycle"]], [(self.y, EX), (self.x, EX)])

    def test_it_is_told_to_those_who_watch_and_with_names(self):
        w, a, b = self.client(), self.client(), self.client()
        a.call("hello", {"client": "the first"})
        b.call("hello", {"client": "the second"})
        w.call("watch")
        a.lock(self.x, EX)
        b.lock(self.y, EX)
        self.wait(a, self.y)
        e = b.refusal(b.start_lock(self.x, EX))
        self.assertEqual([s["client"] for s in e.data["cycle"]], ["the second", "the first"])
        self.assertEqual([w.notification("event")["event"] for _ in range(4)], ["granted", "granted", "waiting", "deadlock"])

    def test_ten_thousand_who_share_and_wait_make_nobody_slow(self):
        crowd, a, b = self.client(concurrent=True), self.client(), self.client()
        n = 10000
        for i in range(n):
            crowd.send("lock", {"path": self.x, "flags": [SH], "handle": i}, id=None)
        crowd.ping()
        a.lock(self.x, SH)
        b.lock(self.y, EX)
        waiting = [self.client() for _ in range(50)]
        for c in waiting:
            c.lock(self.z, SH)
            c.start_lock(self.x, EX)
        for i in range(n):
            crowd.send("lock", {"path": self.x, "flags": [EX], "handle": n + i}, id=None)
        crowd.ping()
        self.assertEqual(a.call("stats")["gauges"]["waiting"], n + len(waiting))
        times = []
        for _ in range(20):
            began = time.perf_counter()
            id = a.start_lock(self.y, EX)
            a.call("cancel", {"id": id})
            times.append(time.perf_counter() - began)
            self.assertEqual(a.refusal(id).code, 4)
        self.assertLess(sorted(times)[10], 0.01 * SLOW)
        self.assertEqual(self.refusal(a, self.z), [(self.z, EX), (self.x, EX)])


if __name__ == "__main__":
    unittest.main()
