"""How a client starts a daemon, and what it says when it cannot."""

import fcntl
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

from wire import PORTALOCKD, await_end

LOCKCTL = os.environ.get("LOCKCTL", "lockctl")
NOBODY = 65534


class Start(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="portalock-")
        self.socket = os.path.join(self.folder, "socket")
        self.env = {**os.environ, "PORTALOCK_SOCKET": self.socket, "PORTALOCKD": PORTALOCKD, "XDG_STATE_HOME": self.folder}
        self.env.pop("PORTALOCK_NO_SPAWN", None)

    def tearDown(self):
        self.lockctl("stop", "--force")
        await_end(self.socket)
        shutil.rmtree(self.folder)

    def lockctl(self, *args, **more):
        return subprocess.run([LOCKCTL, *args], env={**self.env, **more.pop("env", {})}, capture_output=True, text=True, timeout=60, check=False, **more)

    def daemons(self):
        """Processes that serve our socket."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            if b"--idle-exit" in words and self.socket.encode() in words:
                found.append(int(pid))
        return found

    def test_fifty_at_once_start_one_daemon(self):
        path = os.path.join(self.folder, "file")
        clients = [
            subprocess.Popen([LOCKCTL, "run", "-s", "--require-daemon", path, "true"], env=self.env, stderr=subprocess.PIPE, text=True) for _ in range(50)
        ]
        said = [(p.wait(60), p.stderr.read()) for p in clients]
        for p in clients:
            p.stderr.close()
        self.assertEqual([s for s in said if s != (0, "")], [])
        self.assertEqual(len(self.daemons()), 1)
        pid = re.search(r"pid (\d+),", self.lockctl("ping").stdout).group(1)
        self.assertEqual([int(pid)], self.daemons())

    def test_nobody_there_nobody_any_more_and_not_allowed_are_told_apart(self):
        self.assertRegex(self.lockctl("ping").stderr, "socket: no daemon listens there$")
        s = socket.socket(socket.AF_UNIX)
        s.bind(self.socket)
        s.close()
        self.assertRegex(self.lockctl("ping").stderr, "socket: the daemon that listened there is gone$")
        os.unlink(self.socket)

    @unittest.skipUnless(os.getuid() == 0, "needs root, to become somebody else")
    def test_a_socket_that_one_may_not_use_is_told_so(self):
        self.lockctl("run", os.path.join(self.folder, "file"), "true")
        os.chmod(self.folder, 0o755)
        program = shutil.copy(LOCKCTL, self.folder)
        os.chmod(program, 0o755)
        said = subprocess.run([program, "ping"], env=self.env, capture_output=True, text=True, timeout=60, user=NOBODY, check=False)
        self.assertEqual(said.returncode, 69)
        self.assertRegex(said.stderr, "socket: Permission denied$")

    def test_a_daemon_that_cannot_start_is_quoted(self):
        os.mkdir(self.socket)  # what lies there is no socket, and not ours to remove
        said = self.lockctl("run", "--require-daemon", os.path.join(self.folder, "file"), "true")
        self.assertEqual(said.returncode, 69)
        self.assertIn("socket", said.stderr)
        os.rmdir(self.socket)
        said = self.lockctl("run", "--require-daemon", os.path.join(self.folder, "file"), "true", env={"PORTALOCKD": "/no/such/daemon"})
        self.assertEqual(said.returncode, 69)
        self.assertIn("/no/such/daemon: No such file or directory", said.stderr)

    def test_a_long_path_and_closed_descriptors_do_not_hinder_the_start(self):
        folder = os.path.join(self.folder, *["x" * 90] * 4)
        os.makedirs(folder)
        self.socket = os.path.join(folder, "socket")
        self.env["PORTALOCK_SOCKET"] = self.socket
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            code = subprocess.run(["sh", "-c", f'"$0" run --require-daemon "$1" true {closed}', LOCKCTL, os.path.join(self.folder, "file")], env=self.env, timeout=60, check=False).returncode
            self.assertEqual(code, 0, closed)  # also if the one before is just about to end
            self.assertEqual(len(self.daemons()), 1)
            self.assertEqual(self.lockctl("stop").returncode, 0)

    def test_one_that_is_just_ending_is_waited_for_however_long_its_path_is(self):
        folder = os.path.join(self.folder, *["x" * 90] * 5)
        os.makedirs(folder)
        self.socket = os.path.join(folder, "socket")
        self.env["PORTALOCK_SOCKET"] = self.socket
        with open(self.socket + ".lock", "wb") as ending:
            fcntl.flock(ending, fcntl.LOCK_EX)
            client = subprocess.Popen([LOCKCTL, "run", "--require-daemon", os.path.join(self.folder, "file"), "true"], env=self.env)
            with self.assertRaises(subprocess.TimeoutExpired):
                client.wait(0.5)
        self.assertEqual(client.wait(60), 0)


if __name__ == "__main__":
    unittest.main()
