"""Locks as their users meet them: real files, real outsiders, clients that die."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

from wire import PATIENCE, Daemon, DaemonTest, Refused, is_free

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
            self.assertEqual(a.lock(name, EX)["waited_ms"], 0)
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
        a, b = self.client(), self.client()
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
        second = c.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 2)
        os.unlink(self.path)
        a.unlock(lock)
        self.assertEqual(b.refusal(first).data["errno"], "ENOENT")
        c.reply(second)
        self.assertFalse(is_free(self.path))


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
        """It gets in within 17 hand-overs of a queue that never empties."""
        clients = [self.client() for _ in range(3)]
        held = clients[0].lock(self.path, EX)["lock"]
        ids = {c: c.start_lock(self.path, EX) for c in clients[1:]}
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
        owner, hand_overs = clients[0], 0
        while not got_in.is_set():
            owner.unlock(held)
            ids[owner] = owner.start_lock(self.path, EX)
            owner = next(iter(ids))  # the one that has asked for longest
            held = owner.reply(ids.pop(owner))["lock"]
            hand_overs += 1
            self.assertLess(hand_overs, 1000)
        t.join()
        self.assertLessEqual(hand_overs, 17)

    def waiting_in_the_kernel(self):
        inode = os.stat(self.path).st_ino
        with open("/proc/locks") as f:
            return [line for line in f if line.split()[-3].endswith(f":{inode}")]


class Restart(unittest.TestCase):
    def test_ids_and_tokens_from_before_name_nobody_after(self):
        seen = []
        for _ in range(3):
            daemon = Daemon()
            with daemon.connect() as c:
                seen.append(c.call("hello", {"protocol": 1})["session"])
                r = c.lock(daemon.file(), EX)
                seen += [r["lock"], r["token"]]
                self.assertLess(max(seen), 2**53)
            daemon.stop()
        self.assertEqual(seen[0::3], sorted(set(seen[0::3])))
        self.assertEqual(seen[2::3], sorted(set(seen[2::3])))
        self.assertEqual(len(set(seen)), len(seen))


class Death(DaemonTest):
    CLIENT = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from wire import Client
c = Client(sys.argv[2])
fd = os.open(sys.argv[3], os.O_RDWR | os.O_CREAT, 0o666)
if sys.argv[4] == "fd":
    c.lock(None, "LOCK_EX", fd)
else:
    c.lock(sys.argv[3], "LOCK_EX")
print("held", flush=True)
sys.stdin.read()
"""

    def holder(self, how):
        p = subprocess.Popen(
            [sys.executable, "-c", self.CLIENT, os.path.dirname(os.path.abspath(__file__)), self.daemon.path, self.path, how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.assertEqual(p.stdout.readline(), "held\n")
        return p

    def test_a_killed_client_gives_way_at_once(self):
        for how in ("fd", "path"):
            p = self.holder(how)
            c = self.client()
            self.assertEqual(c.busy(self.path, EX_NB).data["holders"][0]["pid"], p.pid)
            id = c.start_lock(self.path, EX)
            self.await_waiting(self.client(), self.path, 1)
            p.kill()
            p.wait(PATIENCE)
            c.unlock(c.reply(id)["lock"])
            p.stdin.close()
            p.stdout.close()

    def test_500_clients_killed_at_any_moment_leave_nothing(self):
        import random

        rng = random.Random(500)
        files = [self.daemon.file(f"f{i}") for i in range(3)]
        for _ in range(500):
            c = self.daemon.connect()
            for _ in range(rng.randrange(4)):
                c.start_lock(rng.choice(files), rng.choice((EX, SH, EX_NB)), handle=rng.randrange(2))
            if rng.random() < 0.5:
                c.ping()
            c.close()
        c = self.client()
        for f in files:
            c.lock(f, EX, timeout_ms=10000)
            self.assertTrue(c.call("unlock", {"path": f})["released"])
        gauges = c.call("stats")["gauges"]
        self.assertEqual((gauges["locks"], gauges["waiting"], gauges["files"], gauges["descriptors"]), (0, 0, 0, 0))


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
        a, c = self.client(), self.client()
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
        holder, others, c, d = (self.client() for _ in range(4))
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
        holder, crowd, c, d = (self.client() for _ in range(4))
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


class List(DaemonTest):
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


class AtOnce(DaemonTest):
    def test_no_upgrade_keeps_a_nonblocking_request_waiting(self):
        """While a cancelled wait in the kernel is still ending, a request that may not wait has to; an upgrade gets before it."""

        def line(name, method, **params):
            return json.dumps({"jsonrpc": "2.0", "id": name, "method": method, "params": params}) + "\n"

        c = self.client()
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
