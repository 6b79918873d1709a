"""The daemon as a service: its socket, its start, its end, its log, its limits."""

import contextlib
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from wire import PATIENCE, PORTALOCKD, Client, Daemon, DaemonTest, is_free

EX, EX_NB = "LOCK_EX", "LOCK_EX|LOCK_NB"


class Socket(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="portalock-")
        self.path = os.path.join(self.folder, "socket")
        self.daemons = []

    def tearDown(self):
        for d in self.daemons:
            d.stop()
        shutil.rmtree(self.folder)

    def start(self, *options, **more):
        d = Daemon(*options, socket_path=more.pop("socket_path", self.path), **more)
        self.daemons.append(d)
        return d

    def test_only_its_user_may_connect(self):
        d = self.start()
        self.assertEqual(os.stat(self.path).st_mode & 0o777, 0o600)
        self.assertTrue(d.ready)

    def test_one_daemon_for_a_socket(self):
        first = self.start()
        second = self.start()
        self.assertFalse(second.ready)
        self.assertEqual(second.wait(), 3)
        self.assertIn(f"another daemon already serves {self.path}", second.log())
        with Client(self.path) as c:
            c.ping()  # the first one lives on
        self.assertIsNone(first.process.poll())

    def test_the_socket_of_a_dead_daemon_is_replaced(self):
        first = self.start()
        first.process.kill()
        first.wait()
        self.assertTrue(os.path.exists(self.path))
        self.assertTrue(self.start().ready)
        with Client(self.path) as c:
            c.ping()

    def test_what_is_no_socket_is_left_alone(self):
        with open(self.path, "w") as f:
            f.write("precious")
        d = self.start()
        self.assertEqual(d.wait(), 1)
        self.assertIn(self.path, d.log())
        with open(self.path) as f:
            self.assertEqual(f.read(), "precious")

    def test_a_folder_that_others_may_write_to_is_refused(self):
        os.chmod(self.folder, 0o777)
        d = self.start()
        self.assertEqual(d.wait(), 1)
        self.assertIn("others may write there", d.log())

    def test_the_folder_by_rule_must_be_ours_and_closed(self):
        if os.geteuid() == 0:
            uid = 12345
        else:
            self.skipTest("needs root to become a user without XDG_RUNTIME_DIR")
        env = {k: v for k, v in os.environ.items() if k not in ("PORTALOCK_SOCKET", "XDG_RUNTIME_DIR")}
        runtime = os.path.join(self.folder, "run")
        os.mkdir(runtime, 0o700)
        os.chown(runtime, uid, uid)
        os.chmod(self.folder, 0o755)
        env["XDG_RUNTIME_DIR"] = env["XDG_STATE_HOME"] = runtime
        program = shutil.copy(PORTALOCKD, self.folder)  # the build may stand where that user may not go
        os.chmod(program, 0o755)
        for prepare, word in (
            (lambda f: os.mkdir(f, 0o755), "mode 0700"),
            (lambda f: os.mkdir(f, 0o700) or os.chown(f, 1, 1), "another user"),
            (lambda f: os.symlink(self.folder, f), "symbolic link"),
        ):
            folder = os.path.join(runtime, "portalock")
            prepare(folder)
            if not os.path.islink(folder) and os.stat(folder).st_uid == 0:
                os.chown(folder, uid, uid)
            p = subprocess.run([program], env=env, user=uid, group=uid, capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(p.returncode, 1, p.stderr)
            self.assertIn(word, p.stderr)
            os.unlink(folder) if os.path.islink(folder) else os.rmdir(folder)

    def test_paths_longer_than_a_socket_address(self):
        deep = os.path.join(self.folder, "x" * 100, "y" * 100)
        os.makedirs(deep)
        path = os.path.join(deep, "socket")
        d = self.start(socket_path=path)
        self.assertTrue(d.ready, d.log())
        folder = os.open(deep, os.O_PATH)
        with Client(f"/proc/self/fd/{folder}/socket") as c:
            c.ping()
        os.close(folder)
        d = self.start(socket_path=os.path.join(self.folder, "z" * 200))
        self.assertEqual(d.wait(), 1)
        self.assertIn("too long", d.log())

    def test_a_stranger_is_denied(self):
        if os.geteuid() != 0:
            self.skipTest("needs root to become somebody else")
        d = self.start()
        os.chmod(self.folder, 0o755)
        os.chmod(self.path, 0o666)
        code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().readline())"
        p = subprocess.run(["python3", "-c", code, self.path], user=12345, group=12345, capture_output=True, text=True, timeout=PATIENCE)
        self.assertIn('"code":6', p.stdout)
        self.assertIn("denied", d.log())

    def test_the_start_lock_stays_and_the_socket_goes(self):
        d = self.start()
        self.assertEqual(d.end(signal.SIGINT), 0)
        self.assertFalse(os.path.exists(self.path))
        self.assertTrue(os.path.exists(self.path + ".lock"))

    def test_signals_are_for_the_thread_of_the_loop(self):
        d = self.start()
        with d.connect() as c:
            outsider = d.open()
            fcntl.flock(outsider, fcntl.LOCK_EX)
            c.start_lock(d.file(), "LOCK_EX")
            while c.call("stats")["gauges"]["kernel_wait_threads"] == 0:
                pass
            masks = {}
            for thread in os.listdir(f"/proc/{d.process.pid}/task"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that looked at the system's locks has ended
                    with open(f"/proc/{d.process.pid}/task/{thread}/status", encoding="utf-8") as f:
                        masks[int(thread)] = int(re.search(r"^SigBlk:\s*(\w+)$", f.read(), re.MULTILINE).group(1), 16)
            self.assertGreaterEqual(len(masks), 4)  # the loop, two lanes, the wait
            for thread, blocked in masks.items():
                for signo in (signal.SIGTERM, signal.SIGINT):
                    self.assertEqual(blocked >> (signo - 1) & 1, int(thread != d.process.pid))
            os.close(outsider)


class Options(unittest.TestCase):
    def run_it(self, *options):
        return subprocess.run([PORTALOCKD, *options], capture_output=True, text=True, timeout=PATIENCE)

    def test_help_and_version(self):
        p = self.run_it("--help")
        self.assertEqual((p.returncode, p.stderr), (0, ""))
        for option in ("--socket", "--state-dir", "--max-sessions", "--idle-exit", "--log-level", "--log-waits", "--ready-fd", "--version"):
            self.assertIn(option, p.stdout)
        self.assertRegex(self.run_it("--version").stdout, r"^portalockd \d+\.\d+\.\d+\n$")

    def test_bad_usage_names_what_was_wrong(self):
        for options, word in (
            (["--state-dir", ""], "--state-dir"),
            (["--idle-exit", "x"], "'x'"),
            (["--idle-exit", "-1"], "--idle-exit"),
            (["--max-sessions", "20001"], "20000"),
            (["--log-level", "loud"], "'loud'"),
            (["--log-waits", "1.5"], "'1.5'"),
            (["--ready-fd", ""], "--ready-fd"),
            (["extra"], "'extra'"),
            (["--nothing"], "nothing"),
        ):
            p = self.run_it(*options)
            self.assertEqual(p.returncode, 64)
            self.assertIn(word, p.stderr)

    def test_idle_exit_counts_from_the_last_connection(self):
        d = Daemon("--idle-exit", "0")
        self.assertEqual(d.wait(), 0)
        d.stop()
        d = Daemon("--idle-exit", "1")
        c = d.connect()
        c.ping()
        self.assertIsNone(d.process.poll())
        c.close()
        self.assertEqual(d.wait(), 0)
        self.assertIn("by=idle", d.log())
        d.stop()


class Stopping(DaemonTest):
    def test_sigterm_answers_waiters_closes_and_keeps_passed_locks(self):
        a, b = self.client(), self.client()
        fd = self.open()
        a.lock(None, EX, fd)
        id = b.start_lock(self.path, EX)
        self.await_waiting(a, self.path, 1)
        self.daemon.process.send_signal(signal.SIGTERM)
        self.assertEqual(b.refusal(id).code, 9)
        self.assertIsNone(b.line())
        self.assertEqual(self.daemon.wait(), 0)
        self.assertFalse(is_free(self.path))

    def test_one_who_waits_in_the_kernel_is_answered_too(self):
        self.outsider()
        c = self.client()
        id = c.start_lock(self.path, EX)
        self.await_waiting(self.client(), self.path, 1)
        self.client().call("stop")
        self.assertEqual(c.refusal(id).code, 9)
        self.assertEqual(self.daemon.wait(), 0)

    def test_a_list_that_waits_for_a_look_at_outsiders_is_answered_too(self):
        c = self.client()
        c.raw(
            '{"jsonrpc":"2.0","id":1,"method":"list"}\n'  # the first look is never recent enough
            '{"jsonrpc":"2.0","id":2,"method":"stop"}\n'
        )
        self.assertEqual(c.reply(2), {})
        self.assertEqual(c.refusal(1).code, 9)
        self.assertIsNone(c.line())

    def test_signals_change_nothing_once_it_ends(self):
        for _ in range(20):
            d = Daemon()
            self.addCleanup(d.stop)
            with d.connect() as c:
                c.call("stop")
            while d.process.poll() is None:
                d.process.send_signal(signal.SIGTERM)
            self.assertEqual(d.process.returncode, 0)

    def test_stop_is_refused_while_a_lock_by_path_would_end(self):
        c = self.client()
        c.lock(self.path, EX)
        self.assertEqual(c.refuse("stop").code, 6)
        c.call("unlock", {"path": self.path})
        c.call("stop")
        self.assertEqual(self.daemon.wait(), 0)


class LogTest(DaemonTest):
    def line(self, word):
        """The first log line about `word`, when it comes."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            lines = [l for l in self.daemon.log().splitlines() if re.search(rf"\bevent={word}\b|\b{word}\b", l)]
            if lines:
                return lines
        raise TimeoutError(f"no log line about {word}: {self.daemon.log()}")

    def me(self):
        with open("/proc/self/comm") as f:
            return f"{f.read().strip()}[{os.getpid()}]"


class Log(LogTest):
    options = ("--log-waits", "50")

    def test_a_long_wait_is_logged_once_with_its_blockers_and_once_when_granted(self):
        a, b = self.client(), self.client()
        lock = a.lock(self.path, EX)["lock"]
        id = b.start_lock(self.path, EX)
        (waiting,) = self.line("waiting")
        self.assertIn(f"pid={os.getpid()}", waiting)
        self.assertIn("mode=LOCK_EX", waiting)
        self.assertIn(f'path="{self.path}"', waiting)
        self.assertIn(f'blocked_by="{self.me()}"', waiting)
        self.assertGreaterEqual(int(re.search(r"waiting_ms=(\d+)", waiting)[1]), 50)
        a.unlock(lock)
        b.reply(id)
        (granted,) = self.line("granted")
        self.assertRegex(granted, r"waited_ms=\d+")
        self.assertIn(f'path="{self.path}"', granted)
        self.assertEqual((len(self.line("waiting_ms")), len(self.line("blocked_by"))), (1, 1))

    def test_many_blockers_are_one_line_for_each_who_waits(self):
        for _ in range(17):
            self.client().lock(self.path, "LOCK_SH")
        c = self.client(concurrent=True)
        ids = [c.start_lock(self.path, EX, handle=i) for i in range(500)]
        while len(self.line("waiting")) < len(ids):
            pass
        me = self.me()
        for line in self.line("waiting"):
            self.assertIn(f'blocked_by="{me},{me},{me} and 14 more"', line)
        self.assertEqual(len(self.line("waiting")), len(ids))
        self.assertEqual(len(self.line("blocked_by")), len(ids))

    def test_an_upgrade_is_not_blocked_by_itself_and_outsiders_are_named(self):
        c = self.client(concurrent=True)
        self.outsider(mode=fcntl.LOCK_SH)
        c.lock(self.path, "LOCK_SH")
        c.lock(self.path, "LOCK_SH", handle=1)
        id = c.start_lock(self.path, EX)
        c.call("unlock", {"path": self.path, "handle": 1})
        (waiting,) = self.line("waiting")
        self.assertIn(f'blocked_by="{self.me()}"', waiting)
        c.call("cancel", {"id": id})


class LogAtOnce(LogTest):
    """The line is due before anybody can have looked who is outside."""

    options = ("--log-waits", "0")

    def test_an_outsider_is_named_though_the_line_is_due_before_the_look(self):
        self.outsider()
        self.client().start_lock(self.path, EX)
        (waiting,) = self.line("waiting")
        self.assertIn(f'blocked_by="{self.me()}"', waiting)


class LogReaders(unittest.TestCase):
    """Whoever reads the log must not be able to stop the daemon."""

    def check(self, read_end, write_end, read):
        flags = fcntl.fcntl(write_end, fcntl.F_GETFL)
        d = Daemon("--log-level", "debug", log=write_end)
        self.assertTrue(d.ready)
        try:
            for _ in range(2000):  # two lines each: far more than a pipe holds
                with d.connect() as c:
                    c.ping()
            self.assertEqual(fcntl.fcntl(write_end, fcntl.F_GETFL), flags)  # nobody else's writes have become non-blocking
            os.set_blocking(read_end, False)
            text = read()
            self.assertIn("event=listening", text)
            with d.connect() as c:
                c.ping()
            deadline = time.monotonic() + PATIENCE
            while not re.search(r"level=warning event=log_dropped lines=\d+\n[\s\S]*event=session_opened", text):
                self.assertLess(time.monotonic(), deadline, text[-500:])
                text += read()
            for line in text.splitlines():
                self.assertRegex(line, "^time=")
        finally:
            self.assertEqual(d.stop(), 0)

    def read_all(self, read):
        data = b""
        try:
            while chunk := read(1 << 16):
                data += chunk
        except BlockingIOError:
            pass
        return data.decode()

    def test_a_full_pipe(self):
        read_end, write_end = os.pipe()
        self.addCleanup(os.close, read_end)
        self.addCleanup(os.close, write_end)
        self.check(read_end, write_end, lambda: self.read_all(lambda n: os.read(read_end, n)))

    def test_a_full_socket(self):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.check(ours.fileno(), theirs.fileno(), lambda: self.read_all(ours.recv))


class Limits(unittest.TestCase):
    """With 200 descriptors: what runs out is named, what is held stays, and unlocking makes room again."""

    def setUp(self):
        self.daemon = Daemon(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)))
        self.assertTrue(self.daemon.ready, self.daemon.log())

    def tearDown(self):
        self.assertEqual(self.daemon.stop(), 0)

    def test_locks_beyond_the_descriptors(self):
        with self.daemon.connect() as c:
            locks = []
            while True:
                try:
                    locks.append(c.lock(self.daemon.file(f"f{len(locks)}"), EX)["lock"])
                except Exception as e:
                    self.assertEqual((e.code, e.data["limit"]), (8, "descriptors"))
                    break
                self.assertLess(len(locks), 200)
            self.assertGreater(len(locks), 40)
            for lock in locks[:10]:
                self.assertTrue(c.unlock(lock))
            c.lock(self.daemon.file("again"), EX)

    def test_connections_beyond_the_descriptors_wait_and_are_served_later(self):
        with self.daemon.connect() as first:
            first.ping()
            clients = [self.daemon.connect() for _ in range(300)]
            for c in clients:
                c.send("ping")
            served = [c for c in clients[:50] if c.reply(1) == {}]
            self.assertEqual(len(served), 50)
            lock = first.lock(self.daemon.file(), EX)["lock"]  # others work on
            first.unlock(lock)
            for c in clients[:250]:
                c.close()
            for c in clients[250:]:
                c.reply(1)
                c.close()
        self.assertIn("accept_paused", self.daemon.log())

    def test_descriptors_that_cannot_be_received_are_a_named_failure(self):
        fd = os.open(self.daemon.file(), os.O_RDWR | os.O_CREAT)
        clients = [self.daemon.connect() for _ in range(10)]
        refused = 0
        try:
            for c in clients:
                for _ in range(40):
                    c.raw(" ", fd)  # queued: nobody claims them yet
                c.raw("\n")
            for c in clients:
                c.ping()
            for c in clients:
                for _ in range(40):
                    id = c.send("lock", {"fd": True, "flags": ["LOCK_SH"]})
                    try:
                        c.reply(id)
                    except Exception as e:
                        self.assertEqual((e.code, e.data["limit"]), (8, "descriptors"))
                        refused += 1
        finally:
            for c in clients:
                c.close()
            os.close(fd)
        self.assertGreater(refused, 0)
        with self.daemon.connect() as c:
            c.lock(self.daemon.file("after"), EX)


if __name__ == "__main__":
    unittest.main()
