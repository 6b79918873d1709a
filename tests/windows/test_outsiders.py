"""Programs that lock as the portalocker recipe does on nt, and we: each excludes the other, for every mode, waiting or not."""

import os
import select
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "integration"))

from windows import WINE, Outsider  # noqa: E402
from wire import PORTALOCKD, Daemon, DaemonTest  # noqa: E402

EX, SH, NB = "LOCK_EX", "LOCK_SH", "|LOCK_NB"
COMPATIBLE = {(a, b): a == b == SH for a in (EX, SH) for b in (EX, SH)}


class Outsiders(DaemonTest):
    def outside(self, mode, nonblocking=False):
        o = Outsider(self.path, mode[-2:], nonblocking)
        self.addCleanup(lambda: o.process.poll() is None and o.kill())
        return o

    def test_what_we_hold_it_cannot_have(self):
        for (ours, its), compatible in COMPATIBLE.items():
            with self.subTest(ours=ours, its=its):
                c = self.client()
                lock = c.lock(self.path, ours)["lock"]
                o = self.outside(its, nonblocking=True)
                self.assertEqual(o.locked(), compatible)
                self.assertEqual(o.unlock(), 0 if compatible else 1)
                c.unlock(lock)
                o = self.outside(its, nonblocking=True)
                self.assertTrue(o.locked())
                self.assertEqual(o.unlock(), 0)

    def test_what_it_holds_we_cannot_have(self):
        for (its, ours), compatible in COMPATIBLE.items():
            with self.subTest(its=its, ours=ours):
                c = self.client()
                o = self.outside(its)
                self.assertTrue(o.locked())
                if compatible:
                    c.unlock(c.lock(self.path, ours + NB)["lock"])
                else:
                    e = c.busy(self.path, ours + NB)
                    self.assertEqual(e.data["holders"], [])  # nobody can be named
                    self.assertEqual(c.refusal(c.start_lock(self.path, ours, timeout_ms=100)).code, 2)
                self.assertEqual(o.unlock(), 0)
                c.unlock(c.lock(self.path, ours + NB)["lock"])

    def test_we_wait_for_it_and_have_the_lock_soon_after(self):
        c = self.client()
        for its, ours in ((EX, EX), (EX, SH), (SH, EX)):
            with self.subTest(its=its, ours=ours):
                o = self.outside(its)
                self.assertTrue(o.locked())
                id = c.start_lock(self.path, ours)
                self.await_waiting(c, self.path, 1)
                o.process.stdin.close()
                self.assertEqual(o.process.stdout.readline().strip(), "unlocked")
                began = time.monotonic()
                lock = c.reply(id)["lock"]
                self.assertLess(time.monotonic() - began, 0.1)
                self.assertEqual(o.process.wait(20), 0)
                o.process.stdout.close()
                c.unlock(lock)

    def test_it_waits_for_us_and_has_the_lock_soon_after(self):
        for ours, its in ((EX, EX), (EX, SH), (SH, EX)):
            with self.subTest(ours=ours, its=its):
                c = self.client()
                lock = c.lock(self.path, ours)["lock"]
                o = self.outside(its)
                self.assertEqual(select.select([o.process.stdout], [], [], 0.5)[0], [])  # it has the time to do what it must not
                c.unlock(lock)
                self.assertTrue(o.locked())
                c.busy(self.path, EX + NB)
                self.assertEqual(o.unlock(), 0)

    def test_one_who_is_killed_has_nothing_any_more(self):
        c = self.client()
        o = self.outside(EX)
        self.assertTrue(o.locked())
        id = c.start_lock(self.path, EX)
        self.await_waiting(c, self.path, 1)
        o.kill()
        c.reply(id)

    def test_the_daemons_death_frees_its_locks(self):
        c = self.client()
        c.lock(self.path, EX)
        o = self.outside(EX, nonblocking=True)
        self.assertFalse(o.locked())
        o.unlock()
        self.daemon.process.kill()
        self.daemon.process.wait(20)
        o = self.outside(EX)
        self.assertTrue(o.locked())
        self.assertEqual(o.unlock(), 0)
        self.daemon.process.returncode = 0  # as for tearDown(): it was to die

    def test_a_conversion_drops_nothing_while_an_outsider_shares(self):
        """SH to EX is unlock and lock here; refused, the SH is there again at once."""
        c = self.client()
        c.lock(self.path, SH)
        o = self.outside(SH)
        self.assertTrue(o.locked())
        c.busy(self.path, EX + NB)
        other = self.outside(EX, nonblocking=True)
        self.assertFalse(other.locked())
        other.unlock()
        id = c.start_lock(self.path, EX)  # an upgrade waits for outsiders as well
        self.await_waiting(c, self.path, 1)
        self.assertEqual(o.unlock(), 0)
        self.assertEqual(c.reply(id)["mode"], EX)
        self.assertEqual(c.lock(self.path, SH)["mode"], SH)
        o = self.outside(SH, nonblocking=True)
        self.assertTrue(o.locked())
        self.assertEqual(o.unlock(), 0)

    def test_locking_twice_is_what_the_recipe_left_unsolved(self):
        """There a second lock() of the same file waits for ever; here it is the same lock."""
        c = self.client()
        first = c.lock(self.path, EX)
        self.assertEqual(c.lock(self.path, EX, timeout_ms=5000)["lock"], first["lock"])
        self.assertTrue(c.unlock(first["lock"]))
        self.assertFalse(c.unlock(first["lock"]))
        o = self.outside(EX, nonblocking=True)
        self.assertTrue(o.locked())
        self.assertEqual(o.unlock(), 0)

    def test_our_lock_leaves_the_data_free(self):
        """Wine would let everybody read and write in any case: this sees only that the file itself is not in the way."""
        c = self.client()
        c.lock(self.path, EX)
        with open(self.path, "r+b") as f:
            f.write(b"data")
        os.rename(self.path, self.path + ".moved")
        os.rename(self.path + ".moved", self.path)


class Names(DaemonTest):
    """Which names are files, and which are not."""

    def test_streams_and_devices_are_refused(self):
        c = self.client()
        for name in ("C:\\NUL", "C:\\users\\COM1", "\\\\.\\C:", "\\\\?\\pipe\\x", "\\\\.\\pipe\\x", "C:\\users\\file:stream", "C:\\users\\file::$DATA", "\\\\?\\C:\\users\\f:s"):
            e = c.refusal(c.start_lock(name, EX))
            self.assertEqual((e.code, e.data["errno"]), (7, "ENOTSUP"), name)

    def test_what_is_not_absolute_is_refused(self):
        c = self.client()
        for name in ("file", "C:file", "\\file", "C:", "..\\file", "\\"):
            e = c.refusal(c.start_lock(name, EX))
            self.assertEqual((e.code, e.data["member"]), (-32602, "path"), name)

    def test_the_same_file_by_other_names(self):
        a, b = self.client(), self.client()
        a.lock(self.path, EX)
        windows = "Z:" + self.path.replace("/", "\\")
        for name in (windows, "\\\\?\\" + windows, "z:" + self.path):
            b.busy(name, EX + NB)

    def test_names_beyond_ascii(self):
        c = self.client()
        path = self.daemon.file("Größe-文件")
        lock = c.lock(path, EX)
        self.assertEqual(lock["path"], path)
        self.assertIn(path, self.rows(c))
        self.assertTrue(os.path.exists(path))

    def test_an_error_has_the_systems_number(self):
        c = self.client()
        e = c.refusal(c.start_lock(self.path, EX, create=False))
        self.assertEqual((e.data["syscall"], e.data["errno"], e.data["code"]), ("CreateFileW", "ENOENT", 2))


class Start(DaemonTest):
    def test_a_second_daemon_on_the_same_pipe_is_refused(self):
        for name in (self.daemon.pipe, self.daemon.pipe.upper()):
            p = subprocess.run([WINE, PORTALOCKD, "--socket", name], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=20)
            self.assertEqual(p.returncode, 3, p.stderr)
            self.assertIn("another daemon already serves", p.stderr)

    def test_tokens_grow_over_restarts_and_kills(self):
        last = 0
        for signo in (15, 9, 15):
            c = self.client()
            token = c.lock(self.path, EX)["token"]
            self.assertGreater(token, last)
            last = token
            self.daemon.end(signo)
            state = self.daemon.file("state")
            self.daemon = Daemon(*self.options, state_dir=state)
            self.assertTrue(self.daemon.ready, self.daemon.log())


if __name__ == "__main__":
    unittest.main()
