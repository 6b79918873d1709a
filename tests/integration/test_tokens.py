"""Tokens and ids grow over restarts, SIGKILLs and a clock set back, and nothing that happens to the state file makes them go back."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import hanging_fs
from hanging_fs import OPENDIR, HangingFs
from wire import PATIENCE, PORTALOCKD, Daemon

EX, SH = "LOCK_EX", "LOCK_SH"
YEAR_US = 366 * 86400 * 10**6
SLOW = float(os.environ.get("PORTALOCK_SLOW", "1"))
MS_RDONLY, MS_REMOUNT = 1, 32
MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def now_us():
    return int(time.time() * 1e6)


def checksum(text):
    n = 0xCBF29CE484222325
    for c in text.encode():
        n = (n ^ c) * 0x100000001B3 % 2**64
    return n


class Tokens(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="portalock-")
        self.state = os.path.join(self.folder, "state")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def start(self, *options, name="socket", state_dir=None, **more):
        d = Daemon(*options, socket_path=os.path.join(self.folder, name), state_dir=state_dir or self.state, **more)
        self.addCleanup(d.stop)
        self.assertTrue(d.ready, d.log())
        return d

    def kill(self, daemon):
        daemon.process.kill()
        daemon.process.wait()

    def file(self):
        """The one state file."""
        (name,) = os.listdir(self.state)
        return os.path.join(self.state, name)

    def bound(self, path=None):
        with open(path or self.file(), encoding="ascii") as f:
            return int(f.read().split()[2])

    def write_bound(self, n):
        text = f"portalock-bound 1 {n}"
        with open(self.file(), "w", encoding="ascii") as f:
            f.write(f"{text} {checksum(text):016x}\n")

    def numbers(self, daemon):
        """Every number that one session sees, in the order in which they are drawn."""
        with daemon.connect() as c:
            session = int(c.call("hello", {"protocol": 1})["session"])
            a = c.lock(daemon.file("a"), EX)
            b = c.lock(daemon.file("b"), SH)
            up = c.lock(daemon.file("b"), EX)
            return [session, a["token"], a["lock"], b["token"], b["lock"], up["token"]]

    def works(self, daemon, above):
        """It serves, with numbers that grow from `above` and never fall behind the clock."""
        before = max(above, now_us())
        numbers = self.numbers(daemon)
        self.assertEqual(numbers, sorted(set(numbers)))
        self.assertGreater(numbers[0], above)
        self.assertGreaterEqual(numbers[0], before)
        self.assertLess(numbers[-1], 2**53)
        return numbers[-1]

    def test_twenty_kills_with_the_clock_set_back_before_each_second_start(self):
        last = 0
        for turn in range(20):
            d = self.start()
            last = self.works(d, last)
            self.kill(d)
            self.assertGreaterEqual(self.bound(), last)
            if turn % 2:
                # A clock set back by a day is a bound that is a day ahead of the clock.
                self.write_bound(self.bound() + 86400 * 10**6)
                last = self.bound()

    def test_a_kill_right_after_a_number_beyond_the_bound(self):
        daemons = [self.start(name=f"s{i}", state_dir=os.path.join(self.folder, f"state{i}")) for i in range(16)]
        clients = [d.connect() for d in daemons]
        for c in clients:
            self.addCleanup(c.close)
            c.ping()
        time.sleep(10.5)  # the bound is ten seconds ahead of the clock
        for i, (d, c) in enumerate(zip(daemons, clients)):
            token = c.lock(d.file(), EX)["token"]
            d.process.kill()
            d.process.wait()
            (name,) = (n for n in os.listdir(os.path.join(self.folder, f"state{i}")) if not n.endswith(".new"))
            self.assertGreaterEqual(self.bound(os.path.join(self.folder, f"state{i}", name)), token)
            self.assertNotIn("unguarded", d.log())

    def test_an_orderly_restart_keeps_by_the_clock(self):
        d = self.start()
        last = self.works(d, 0)
        for _ in range(5):
            self.assertEqual(d.end(), 0)
            self.assertEqual(self.bound(), last)
            d = self.start()
            last = self.works(d, last)
            self.assertLess(last, now_us() + 10**6)

    def test_an_idle_daemon_writes_nothing(self):
        d = self.start()
        with d.connect() as c:
            c.ping()
            before = os.stat(self.file())
            time.sleep(11)
            for _ in range(3):
                c.ping()
            after = os.stat(self.file())
        self.assertEqual((before.st_ino, before.st_mtime_ns), (after.st_ino, after.st_mtime_ns))

    def test_file_and_folder_are_for_the_owner_alone(self):
        self.start()
        self.assertEqual(os.stat(self.state).st_mode & 0o777, 0o700)
        self.assertEqual(os.stat(self.file()).st_mode & 0o777, 0o600)

    def test_two_daemons_share_the_folder_but_no_file(self):
        a, b = self.start(name="a"), self.start(name="b")
        self.assertEqual(len(os.listdir(self.state)), 2)
        self.works(a, 0)
        self.works(b, 0)
        self.assertEqual(a.end(), 0)
        self.assertEqual(b.end(), 0)
        link = os.path.join(self.folder, "link")
        os.symlink(self.folder, link)
        self.start(name="link/a")  # the same socket
        self.assertEqual(len(os.listdir(self.state)), 2)

    def test_a_missing_file_and_folder(self):
        d = self.start()
        last = self.works(d, 0)
        self.assertRegex(d.log(), "level=info event=tokens_by_clock .*No such file")
        self.kill(d)
        shutil.rmtree(self.state)
        d = self.start()
        self.works(d, last)
        self.assertRegex(d.log(), "event=tokens_by_clock .*No such file")

    def test_damaged_files(self):
        d = self.start()
        last = self.works(d, 0)
        self.kill(d)
        with open(self.file(), "rb") as f:
            good = f.read()
        for bad in (b"", b"garbage\n", b"\0" * 100, b"9" * 5000, good[:-1], good + b"\n", good.replace(b"1 ", b"2 ", 1), b"portalock-bound 1 99999999999999999999999 0\n"):
            with open(self.file(), "wb") as f:
                f.write(bad)
            d = self.start()
            last = self.works(d, last)
            self.assertRegex(d.log(), 'level=warning event=tokens_by_clock .*reason="damaged"')
            self.assertGreater(self.bound(), last)
            self.kill(d)

    def test_bounds_in_the_far_future(self):
        self.kill(self.start())
        year_2040 = 2208988800 * 10**6
        self.write_bound(year_2040)
        d = self.start()
        last = self.works(d, year_2040)
        self.assertLess(last, year_2040 + 100)
        self.assertRegex(d.log(), "level=warning event=tokens_ahead")
        self.kill(d)
        self.works(self.start(), last)

    def test_a_bound_near_the_end_of_all_numbers_is_damage(self):
        self.kill(self.start())
        for n in (2**53 - 2**40, 2**53 - 1, 2**53, 2**64 - 1, 2**64 + 5):
            self.write_bound(n)
            d = self.start()
            self.assertLess(self.works(d, 0), now_us() + YEAR_US)
            self.assertRegex(d.log(), 'tokens_by_clock .*reason="damaged"')
            self.kill(d)

    def test_what_is_a_link_is_neither_read_nor_written(self):
        self.kill(self.start())
        path, other = self.file(), os.path.join(self.folder, "other")
        self.write_bound(now_us() + YEAR_US // 2)
        os.rename(path, other)
        os.symlink(other, path)
        with open(other, "rb") as f:
            before = f.read()
        d = self.start()
        self.assertLess(self.works(d, 0), now_us() + 10**6)
        self.assertRegex(d.log(), "level=warning event=tokens_by_clock .*Too many levels of symbolic links")
        self.assertRegex(d.log(), "level=warning event=tokens_unguarded .*not a file of ours")
        self.assertEqual(d.end(), 0)
        self.assertEqual(os.readlink(path), other)
        with open(other, "rb") as f:
            self.assertEqual(f.read(), before)

    def test_no_place_for_it(self):
        with open(self.state, "w", encoding="ascii"):
            pass
        for where, word in ((self.state, "Not a directory"), (self.state + "/below", "Not a directory"), (self.folder + "/no/such", "mkdir: No such file"), ("x" * 5000, "names a folder")):
            d = self.start(state_dir=where)
            self.works(d, 0)
            self.assertIn(word, d.log())
            self.assertEqual(d.end(), 0)

    def mount(self, options):
        """A small disk of our own."""
        os.mkdir(self.state)
        if libc.mount(b"portalock-test", self.state.encode(), b"tmpfs", 0, options.encode()) != 0:
            self.skipTest(f"mount: {os.strerror(ctypes.get_errno())}")
        self.addCleanup(libc.umount2, self.state.encode(), MNT_DETACH)

    def remount(self, flags, options):
        if libc.mount(b"portalock-test", self.state.encode(), b"tmpfs", MS_REMOUNT | flags, options.encode()) != 0:
            self.skipTest(f"remount: {os.strerror(ctypes.get_errno())}")

    def test_a_full_disk(self):
        self.mount("mode=700,size=16k")
        d = self.start()
        last = self.works(d, 0)
        self.kill(d)
        with open(os.path.join(self.state, "ballast"), "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 1024):
                    pass
            except OSError:
                pass
        known = [n for n in os.listdir(self.state) if n != "ballast"]
        d = self.start()
        last = self.works(d, last)
        self.assertRegex(d.log(), "level=warning event=tokens_unguarded .*No space left on device")
        self.assertEqual([n for n in os.listdir(self.state) if n != "ballast"], known)  # nothing half-written
        os.unlink(os.path.join(self.state, "ballast"))
        deadline = time.monotonic() + PATIENCE
        while "event=tokens_guarded" not in d.log():  # it tries again every ten seconds, if numbers are drawn
            last = self.works(d, last)
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.2)
        self.assertEqual(d.log().count("tokens_unguarded"), 1)
        self.kill(d)
        self.assertGreaterEqual(self.bound(), last)

    def test_a_disk_that_is_read_only(self):
        self.mount("mode=700,size=1m")
        self.kill(self.start())
        ahead = now_us() + 3600 * 10**6
        self.write_bound(ahead)
        self.remount(MS_RDONLY, "mode=700,size=1m")
        d = self.start()
        self.works(d, ahead)
        self.assertRegex(d.log(), "level=warning event=tokens_unguarded .*Read-only file system")
        self.assertEqual(d.end(), 0)

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_a_user_by_rule_and_without_rights(self):
        uid = 12345
        os.chmod(self.folder, 0o755)
        home, sockets = os.path.join(self.folder, "home"), os.path.join(self.folder, "run")
        for path in (home, sockets):
            os.mkdir(path, 0o700)
            os.chown(path, uid, uid)
        program = shutil.copy(PORTALOCKD, self.folder)  # the build may stand where that user may not go
        os.chmod(program, 0o755)

        def logged(**env):
            """What a daemon says until it is killed right after its start."""
            ready, report = os.pipe()
            p = subprocess.Popen([program, "--socket", sockets + "/socket", "--ready-fd", str(report)], env=env, user=uid, group=uid, pass_fds=[report], stderr=subprocess.PIPE, text=True)
            os.close(report)
            with os.fdopen(ready) as f:
                self.assertEqual(f.read(), "READY\n")
            p.kill()
            return p.communicate()[1]

        self.assertIn(home + "/.local/state/portalock", logged(HOME=home))
        self.assertEqual(len(os.listdir(home + "/.local/state/portalock")), 1)
        self.assertNotIn("tokens", logged(HOME=home))
        self.assertIn(f'"{home}/state/portalock"', logged(HOME=home, XDG_STATE_HOME=home + "/state"))
        self.assertEqual(len(os.listdir(home + "/state/portalock")), 1)
        self.assertIn("names a folder", logged())
        self.assertRegex(logged(HOME=self.folder), "tokens_unguarded .*mkdir: Permission denied")
        os.chmod(home + "/.local/state/portalock", 0o500)
        self.assertRegex(logged(HOME=home), "tokens_unguarded .*: Permission denied")

    def test_a_home_that_hangs_delays_the_start_by_a_second_and_no_more(self):
        try:
            fs = HangingFs()
        except hanging_fs.Unavailable as e:
            self.skipTest(f"no FUSE here: {e}")
        self.addCleanup(fs.close)
        fs.hang(OPENDIR)
        began = time.monotonic()
        d = self.start(state_dir=fs.mountpoint)
        self.assertLess(time.monotonic() - began, 1 + SLOW)
        self.addCleanup(fs.go_on)
        self.works(d, 0)
        self.assertRegex(d.log(), "level=warning event=tokens_unguarded .*takes long to read")
        began = time.monotonic()
        d.process.send_signal(signal.SIGTERM)
        while not os.path.exists(d.path + ".lock") or not re.search("event=stopped", d.log()):
            self.assertLess(time.monotonic() - began, 5 * SLOW)
            time.sleep(0.01)
        fs.go_on()
        self.assertEqual(d.wait(), 0)


if __name__ == "__main__":
    unittest.main()
