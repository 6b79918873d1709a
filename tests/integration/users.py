"""Several users and a daemon for all of them, for tests that run as root: each connection is made by a process of that user."""

import os
import resource
import shutil
import socket
import tempfile
import unittest

from wire import PORTALOCKD, Client, Daemon

# Nobody's, we hope; the daemon's, two users', and those of all whom a container does not know.
DAEMON, ALICE, BOB, NOBODY = 41001, 41002, 41003, 65534


def become(uid):
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def why_not():
    """Why such tests cannot run here; None: they can."""
    if os.geteuid() != 0:
        return "needs root, to be several users"
    pid = os.fork()
    if pid == 0:
        try:
            become(DAEMON)
            os._exit(0 if os.access(PORTALOCKD, os.X_OK) else 2)
        except OSError:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {0: None, 2: f"other users cannot run {PORTALOCKD}"}.get(code, "root may not become another user here")


class Recorded(socket.socket):
    """Remembers every byte it has received."""

    heard = b""

    def recv(self, size, *flags):
        data = super().recv(size, *flags)
        self.heard += data
        return data


def connect_as(uid, path):
    """A connection made by a process of that user, its pid, and a socket: the process lives until that is closed."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            keep = theirs.fileno()  # what else we have is the other connections, which must end when the test closes them
            os.closerange(3, keep)
            os.closerange(keep + 1, 4096)
            become(uid)
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            socket.send_fds(theirs, [b"."], [s.fileno()])
            s.close()
            theirs.recv(1)
        finally:
            os._exit(0)
    theirs.close()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        ours.close()
        os.waitpid(pid, 0)
        raise ConnectionError(f"{path} cannot be connected to as {uid}")
    return Recorded(fileno=fds[0]), pid, ours


class User(Client):
    def __init__(self, path, uid):
        connected, self.pid, self.process = connect_as(uid, path)
        self.uid = uid
        super().__init__(path, connected=connected)

    def heard(self):
        return self.socket.heard.decode()

    def close(self):
        super().close()
        if self.process is not None:
            self.process.close()
            os.waitpid(self.pid, 0)
        self.process = None


@unittest.skipIf(why_not(), why_not())
class UsersTest(unittest.TestCase):
    """A daemon with --system, run by a user of its own."""

    limit_of_descriptors = None
    daemon_uid = DAEMON

    def setUp(self):
        self.set_base()
        self.folder(self.daemon_uid, "run", 0o755)
        self.start()

    def set_base(self):
        """A folder of the test's own."""
        self.base = tempfile.mkdtemp(prefix="portalock-")
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        os.chmod(self.base, 0o755)

    def folder(self, uid, name, mode):
        path = os.path.join(self.base, name)
        os.mkdir(path)
        os.chmod(path, mode)
        os.chown(path, uid, uid)
        return path

    def prepare(self):
        """In the daemon's process, before it begins."""
        if self.limit_of_descriptors:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limit_of_descriptors,) * 2)
        become(self.daemon_uid)

    def launch(self):
        return Daemon("--system", socket_path=os.path.join(self.base, "run", "system"), preexec_fn=self.prepare)

    def start(self):
        self.daemon = self.launch()
        self.addCleanup(lambda: self.assertEqual(self.daemon.stop(), 0))
        self.assertTrue(self.daemon.ready, self.daemon.log())

    def user(self, uid):
        c = User(self.daemon.path, uid)
        self.addCleanup(c.close)
        return c

    def open(self, path):
        """A description of that file, made if need be by root, for anybody to pass."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self.addCleanup(self.close, fd)
        return fd

    @staticmethod
    def close(fd):
        try:
            os.close(fd)
        except OSError:
            pass  # the test has done so
