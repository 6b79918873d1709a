"""Going on after the daemon has died or the connection broke: what is given back, what is lost, and who is next."""

import fcntl
import os
import shutil
import signal
import unittest

from wire import Daemon, DaemonTest, is_free

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"

WINDOW_MS = 5000


def holder(token, mode):
    return {"token": token, "mode": mode}


class Reclaim(DaemonTest):
    def restart(self, signo=signal.SIGKILL):
        """Another daemon on the same socket; its predecessor is dead. All clients are new ones."""
        before = self.daemon
        before.end(signo)
        self.daemon = Daemon(socket_path=before.path)
        self.addCleanup(shutil.rmtree, self.daemon.folder)
        self.daemon.folder = before.folder
        self.assertTrue(self.daemon.ready, self.daemon.log())

    def reclaim(self, c, fd, r, mode=None):
        mode = mode or r["mode"]
        return c.lock("label", mode, fd, reclaim=holder(r["token"], mode))

    def lost(self, c, fd, r, mode=None):
        mode = mode or r["mode"]
        e = c.refusal(c.start_lock("label", mode, fd, reclaim=holder(r["token"], mode)))
        self.assertEqual((e.code, e.data["name"]), (5, "LOST"))
        return e

    def test_what_the_descriptor_bears_is_given_back_with_its_token(self):
        for signo in (signal.SIGKILL, signal.SIGTERM):
            for mode in (EX, SH):
                fd = self.open(f"{mode}{signo}")
                path = self.daemon.file(f"{mode}{signo}")
                before = self.client().lock(None, mode, fd)
                self.restart(signo)
                c = self.client()
                self.assertFalse(is_free(path))
                r = self.reclaim(c, fd, before)
                self.assertEqual((r["token"], r["mode"]), (before["token"], mode))
                self.assertGreater(r["lock"], before["lock"])
                (file,) = self.rows(c).values()
                self.assertEqual([(h["token"], h["mode"], h["label"]) for h in file["holders"]], [(before["token"], mode, "label")])
                self.assertEqual(file["outside"], [])
                self.assertTrue(c.unlock(r["lock"]))
                self.assertTrue(is_free(path))
                self.assertGreater(c.lock(None, EX, fd)["token"], before["token"])
                c.close()

    def test_stop_loses_none(self):
        fd = self.open()
        c = self.client()
        before = c.lock(None, EX, fd)
        waiter = self.client()
        waits = waiter.start_lock(None, EX, self.open())
        self.await_waiting(c, self.path, 1)
        self.client().call("stop")
        self.assertEqual(waiter.refusal(waits).data["name"], "SHUTTING_DOWN")
        self.assertEqual(self.daemon.wait(), 0)
        self.assertFalse(is_free(self.path))
        self.restart()
        self.assertEqual(self.reclaim(self.client(), fd, before)["token"], before["token"])

    def test_lost_is_what_it_does_not_bear_even_if_it_is_free(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.restart()
        fcntl.flock(fd, fcntl.LOCK_UN)
        c = self.client()
        self.lost(c, fd, before)
        self.lost(c, fd, before, SH)
        fcntl.flock(fd, fcntl.LOCK_SH)
        self.lost(c, fd, before, EX)
        self.assertEqual(self.rows(c, outside=False), {})

    def test_lost_is_what_was_broken_just_before_the_kill(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.client().call("break", {"lock": before["lock"]})
        self.restart()
        self.lost(self.client(), fd, before)

    def test_lost_is_what_was_held_by_path(self):
        before = self.client().lock(self.path, EX)
        self.restart()
        self.assertTrue(is_free(self.path))
        e = self.client().refuse("lock", {"path": self.path, "flags": [EX], "reclaim": holder(before["token"], EX)})
        self.assertEqual((e.code, e.data["name"]), (5, "LOST"))

    def test_a_claim_of_less_is_brought_down_without_a_gap(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.restart()
        c = self.client()
        other = c.start_lock(self.path, SH)
        self.await_waiting(c, self.path, 1)
        r = self.reclaim(c, fd, before, SH)
        self.assertEqual((r["token"], r["mode"]), (before["token"], SH))
        self.assertEqual(c.reply(other)["mode"], SH)
        self.client().busy(self.path, EX_NB)

    def test_a_claim_does_not_queue_behind_those_who_wait_for_it(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.restart()
        c, w = self.client(), self.client()
        waits = w.start_lock(self.path, EX)
        self.await_waiting(c, self.path, 1)
        r = self.reclaim(c, fd, before)
        c.unlock(r["lock"])
        w.reply(waits)

    def test_two_sessions_of_one_description_hold_it_together(self):
        fd = self.open()
        a, b = self.client(), self.client()
        before = a.lock(None, EX, fd)
        b.lock(None, EX, fd)
        self.restart()
        a, b = self.client(), self.client()
        one, two = self.reclaim(a, fd, before), self.reclaim(b, fd, before)
        self.assertEqual(one["token"], two["token"])
        a.unlock(one["lock"])
        self.assertFalse(is_free(self.path))
        b.unlock(two["lock"])
        self.assertTrue(is_free(self.path))

    def test_the_connection_breaks_but_the_daemon_lives(self):
        fd = self.open()
        c = self.client()
        before = c.lock(None, EX, fd)
        c.close()
        c = self.client()
        self.assertEqual(self.reclaim(c, fd, before)["token"], before["token"])
        self.assertEqual(self.lost(c, self.open(), before).code, 5)

    def test_a_token_that_no_daemon_can_have_given_is_refused(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.restart()
        c = self.client()
        for token in (2**53 - 1, before["token"] + 2 * 24 * 3600 * 10**6):
            self.lost(c, fd, {**before, "token": token})
        token = before["token"] + 12 * 3600 * 10**6
        self.assertEqual(self.reclaim(c, fd, {**before, "token": token})["token"], token)
        self.assertGreater(c.lock(self.daemon.file("other"), EX)["token"], token)

    def test_waiters_come_back_in_the_order_of_their_age(self):
        fd = self.open()
        before = self.client().lock(None, EX, fd)
        self.restart()
        c = self.client()
        order = []
        sessions = {}
        for name, waited in (("new", None), ("third", 3000), ("first", 90000), ("second", 60000)):
            s = sessions[name] = self.client()
            s.id = s.start_lock(None, EX, self.open(), **({} if waited is None else {"reclaim": {"waited_ms": waited}}))
            self.await_waiting(c, self.path, len(sessions))
        r = self.reclaim(c, fd, before)
        c.unlock(r["lock"])
        for name in ("first", "second", "third", "new"):
            r = sessions[name].reply(sessions[name].id)
            order.append(r["waited_ms"])
            sessions[name].unlock(r["lock"])
        self.assertGreaterEqual(order[0], 90000)
        self.assertLess(order[3], 60000)

    def test_nobody_is_older_than_the_machine_has_been_up(self):
        c = self.client()
        held = c.lock(self.path, EX)
        w = self.client()
        waits = w.start_lock(self.path, EX, reclaim={"waited_ms": 2**53 - 1})
        self.await_waiting(c, self.path, 1)
        c.unlock(held["lock"])
        with open("/proc/uptime", encoding="ascii") as f:
            up = float(f.read().split()[0]) * 1000
        self.assertLess(w.reply(waits)["waited_ms"], up + 5000)

    def test_a_timeout_counts_from_the_receipt_all_the_same(self):
        c = self.client()
        c.lock(self.path, EX)
        w = self.client()
        e = w.refusal(w.start_lock(self.path, EX, timeout_ms=100, reclaim={"waited_ms": 5000}))
        self.assertEqual(e.data["name"], "TIMED_OUT")

    def test_after_the_window_nobody_overtakes(self):
        c = self.client()
        held = c.lock(self.path, EX)
        a, b = self.client(), self.client()
        first = a.start_lock(self.path, EX)
        self.await_waiting(c, self.path, 1)
        # The window is over when a request that only waits for its own timeout says so: an event, not a pause.
        t = self.client()
        t.refusal(t.start_lock(self.path, EX, handle=1, timeout_ms=WINDOW_MS + 100))
        second = b.start_lock(self.path, EX, reclaim={"waited_ms": 90000})
        self.await_waiting(c, self.path, 2)
        c.unlock(held["lock"])
        a.unlock(a.reply(first)["lock"])
        self.assertLess(b.reply(second)["waited_ms"], 60000)

    def test_a_session_goes_on_under_its_id_if_nobody_has_it(self):
        old = self.client().call("hello", {"protocol": 1})["session"]
        self.restart()
        a, b = self.client(), self.client()
        self.assertEqual(a.call("hello", {"session": old})["session"], old)
        other = b.call("hello", {"session": old})["session"]
        self.assertNotEqual(other, old)
        c = self.client()
        far = c.call("hello", {"session": 2**53 - 1})["session"]
        self.assertLess(far, 2**53 - 1)
        r = a.lock(self.path, EX)
        self.assertGreater(r["lock"], old)
        b.busy(self.path, EX_NB)
        (file,) = self.rows(b).values()
        self.assertEqual(file["holders"][0]["session"], old)
        near = other + 3600 * 10**6
        self.assertEqual(self.client().call("hello", {"session": near})["session"], near)
        self.assertGreater(self.client().call("hello")["session"], near)

    def test_a_broken_session_has_its_id_again_at_once(self):
        c = self.client()
        old = c.call("hello")["session"]
        c.close()
        while self.client().call("stats")["gauges"]["sessions"] > 1:
            pass
        self.assertEqual(self.client().call("hello", {"session": old})["session"], old)


if __name__ == "__main__":
    unittest.main()
