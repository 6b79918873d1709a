"""/run/portalock/system itself, in a /run of the test's own, with the real client; and pids, in a pid namespace where they can be had again."""

import json
import os
import signal
import socket
import subprocess
import sys
import unittest

from users import ALICE, BOB, DAEMON, User, become, connect_as, why_not
from wire import Client, Daemon

LOCKCTL = os.environ.get("LOCKCTL", "lockctl")
FOLDER, SOCKET = "/run/portalock", "/run/portalock/system"
INSIDE = "PORTALOCK_TEST_INSIDE"
SO_PEERPIDFD = 77


def unshare(*options):
    return subprocess.run(["unshare", *options, "mount", "-t", "tmpfs", "tmpfs", "/run"], stderr=subprocess.DEVNULL).returncode == 0


def unsharable():
    if why_not() is not None:
        return why_not()
    try:
        return None if unshare("-m", "-p", "-f", "--mount-proc") else "no namespaces of our own here"
    except FileNotFoundError:
        return "no unshare(1)"


class Outside(unittest.TestCase):
    """Runs the classes below in namespaces of their own."""

    @unittest.skipIf(os.environ.get(INSIDE), "inside")
    def test_inside(self):
        reason = unsharable()
        if reason:
            self.skipTest(reason)
        inner = ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", sys.executable, __file__, "Place", "Pids"]
        run = subprocess.run(["unshare", "-m", "-p", "-f", "--mount-proc", *inner], env={**os.environ, INSIDE: "1"}, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("OK", run.stderr)


@unittest.skipUnless(os.environ.get(INSIDE), "run by Outside")
class Place(unittest.TestCase):
    def setUp(self):
        self.addCleanup(subprocess.run, ["rm", "-rf", FOLDER])
        self.base = f"/run/test-{os.getpid()}"
        os.makedirs(self.base, exist_ok=True)
        os.chmod(self.base, 0o777)
        self.path = os.path.join(self.base, "file")

    def make_folder(self, uid=DAEMON):
        os.mkdir(FOLDER)
        os.chmod(FOLDER, 0o755)
        os.chown(FOLDER, uid, uid)

    def launch(self, uid=DAEMON, *options):
        d = Daemon(*(options or ("--system",)), socket_path=SOCKET, preexec_fn=lambda: become(uid))
        self.addCleanup(d.stop)
        return d

    def start(self):
        self.make_folder()
        self.daemon = self.launch()
        self.assertTrue(self.daemon.ready, self.daemon.log())

    def run_lockctl(self, uid, *arguments, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PORTALOCK_", "XDG_"))}
        return subprocess.run([LOCKCTL, *arguments], env={**clean, **env}, preexec_fn=lambda: become(uid), capture_output=True, text=True, cwd=self.base)

    def lockctl(self, uid, *arguments, **env):
        run = self.run_lockctl(uid, *arguments, **env)
        self.assertEqual(run.returncode, 0, run.stderr)
        return run.stdout

    def test_it_is_found_by_everybody_and_used(self):
        self.start()
        self.assertEqual(os.stat(SOCKET).st_mode & 0o777, 0o666)
        for uid in (ALICE, BOB, 0):
            self.assertEqual(self.lockctl(uid, "sockname"), SOCKET + "\n")
            out = self.lockctl(uid, "run", "--require-daemon", f"file-{uid}", LOCKCTL, "list", "--json", f"file-{uid}")
            (file,) = json.loads(out)["locks"]
            self.assertEqual((file["path"], file["holders"][0]["uid"]), (os.path.join(self.base, f"file-{uid}"), uid))

    def test_a_list_of_what_is_anothers(self):
        self.start()
        alice = User(SOCKET, ALICE)
        self.addCleanup(alice.close)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, fd)
        alice.lock(self.path, "LOCK_EX", fd)
        columns = "PID,UID,MODE,STATE,TOKEN,LOCK,SESSION,PATH"
        self.assertEqual(self.lockctl(BOB, "list", "-n", "-o", columns).split(), [str(alice.pid), str(ALICE), "LOCK_EX", "held", "-", "-", "-", "-"])
        self.assertEqual(self.lockctl(BOB, "list", "-n", self.path), "")
        self.assertEqual(self.lockctl(ALICE, "list", "-n", "-o", "PATH", self.path).split(), [self.path])
        self.assertEqual(self.lockctl(0, "list", "-n", "-o", "PATH", self.path).split(), [self.path])

    def test_who_is_refused_is_told_by_whom(self):
        self.start()
        alice = User(SOCKET, ALICE)
        self.addCleanup(alice.close)
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.addCleanup(os.close, fd)
        os.chmod(self.path, 0o666)
        alice.lock("/alices-label", "LOCK_EX", fd)
        run = self.run_lockctl(BOB, "run", "-n", "--verbose", self.path, "true")
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{alice.pid}", run.stderr)
        self.assertNotIn("outside", run.stderr)
        self.assertNotIn("alices-label", run.stderr)
        self.assertNotEqual(self.run_lockctl(BOB, "break", self.path).returncode, 0)
        self.assertTrue(alice.is_silent())

    def test_a_client_trusts_the_owner_of_the_folder_and_no_other(self):
        self.make_folder(BOB)
        bobs = self.launch(BOB)
        self.assertTrue(bobs.ready, bobs.log())
        os.chown(FOLDER, DAEMON, DAEMON)  # as if he had slipped his socket in
        self.assertIn("another user", self.run_lockctl(ALICE, "ping").stderr)
        os.chown(FOLDER, BOB, BOB)
        self.lockctl(ALICE, "ping")

    def test_a_named_socket_of_another_user_is_trusted_at_that_place_only(self):
        self.start()
        self.lockctl(ALICE, "ping", PORTALOCK_SOCKET=SOCKET)
        os.mkdir(self.base + "/mine")
        os.link(SOCKET, self.base + "/mine/socket")
        run = self.run_lockctl(ALICE, "ping", PORTALOCK_SOCKET=self.base + "/mine/socket")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("another user", run.stderr)

    def test_clients_never_start_it(self):
        self.start()
        self.daemon.process.send_signal(signal.SIGKILL)
        self.daemon.wait()
        self.assertTrue(os.path.exists(SOCKET))
        run = self.run_lockctl(DAEMON, "ping")
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("is gone", run.stderr)
        self.assertEqual(self.lockctl(ALICE, "run", "file", "echo", "done"), "done\n")  # by flock(2) itself
        again = self.launch()
        self.assertTrue(again.ready, again.log())
        self.lockctl(ALICE, "ping")

    def test_a_users_daemon_does_not_sit_down_there(self):
        self.make_folder(ALICE)
        d = self.launch(ALICE, "--log-level", "error")
        self.assertFalse(d.ready)
        self.assertIn("--system", d.log())

    def test_root_makes_the_folder_if_need_be(self):
        d = self.launch(0)
        self.assertTrue(d.ready, d.log())
        self.assertEqual((os.stat(FOLDER).st_mode & 0o777, os.stat(FOLDER).st_uid), (0o755, 0))
        self.lockctl(ALICE, "ping")


@unittest.skipUnless(os.environ.get(INSIDE), "run by Outside")
class Pids(unittest.TestCase):
    def test_the_command_is_never_that_of_who_got_the_pid_later(self):
        """Whoever connected has ended, and another process has its pid, before the daemon came to look."""
        if not os.path.exists("/proc/sys/kernel/ns_last_pid"):
            self.skipTest("no ns_last_pid: pids cannot be chosen")
        a, b = socket.socketpair()
        with a, b:
            try:
                os.close(a.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
            except OSError:
                self.skipTest("a kernel without SO_PEERPIDFD")
        daemon = Daemon()
        self.addCleanup(daemon.stop)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        connection, pid, process = connect_as(0, daemon.path)
        self.addCleanup(connection.close)
        process.close()
        os.waitpid(pid, 0)
        with open("/proc/sys/kernel/ns_last_pid", "w") as f:
            f.write(str(pid - 1))
        stranger = subprocess.Popen(["sleep", "60"])
        self.addCleanup(stranger.wait)
        self.addCleanup(stranger.kill)
        self.assertEqual(stranger.pid, pid)
        os.kill(daemon.process.pid, signal.SIGCONT)
        c = Client(daemon.path, connected=connection)
        c.lock(daemon.file(), "LOCK_EX")
        (row,) = c.call("list")["locks"][0]["holders"]
        self.assertEqual(row["command"], "")


if __name__ == "__main__":
    unittest.main()
