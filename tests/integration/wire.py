"""An independent client of portalock's protocol, for tests: the standard library only, no code shared with the C client."""

import array
import contextlib
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import windows

PORTALOCKD = os.environ.get("PORTALOCKD", "portalockd")
PATIENCE = 20.0  # seconds after which an awaited event is given up: a failure, never a pause
# clang 14's ThreadSanitizer loses one now and then that comes while the program runs, in a bare libuv loop as well. Elsewhere one must do.
SIGNALS_GET_LOST = os.environ.get("PORTALOCK_TSAN") == "1"

WINDOWS = windows.RELAY is not None  # the daemon runs under Wine


def needs(what):
    """For tests of what Windows does not have: descriptors that travel, half-closed connections, ..."""
    return unittest.skipIf(WINDOWS, f"not on Windows: {what}")


class Refused(Exception):
    """An error reply: code, data."""

    def __init__(self, error):
        super().__init__(f"{error['code']} {error['data'].get('name')}: {error['message']}")
        self.code = error["code"]
        self.data = error["data"]
        self.message = error["message"]


class Client:
    """One session. Lines are sent and received as they are; `call` is the comfortable way."""

    def __init__(self, path, rcvbuf=None, concurrent=False, parent=None, connected=None):
        """
        `concurrent`: it goes on while it waits, with an unlock or with another handle of the same file. `parent`: a session id, or a hello without one: 0.
        `connected`: a socket that somebody else has connected.
        """
        if WINDOWS:
            connected = windows.connect(path)
        self.socket = connected or socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if rcvbuf and not WINDOWS:  # what lies between us and a pipe would be slow, not full
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if not connected:
            self.socket.connect(path)
        self.buffer = b""
        self.last_id = 0
        self.replies = {}
        self.anonymous = []  # replies with id null
        self.notifications = []
        self.session = None
        if concurrent or parent is not None:
            self.session = self.call("hello", {"concurrent": concurrent, **({"parent": parent} if parent else {})})["session"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def raw(self, data, *fds):
        """Send bytes, the descriptors with the first of them."""
        if isinstance(data, str):
            data = data.encode()
        if WINDOWS:
            data = windows.outgoing(data)
        if fds:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
            sent = self.socket.sendmsg([data], rights)
            data = data[sent:]
        if data:
            self.socket.sendall(data)

    def line(self, timeout=PATIENCE):
        """The next line as JSON; None at the end of the connection."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.socket], [], [], left)[0]:
                raise TimeoutError("no line from the daemon")
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        message = json.loads(line)
        return windows.incoming(message) if WINDOWS else message

    def take(self):
        """One more line, into its drawer. False at the end."""
        message = self.line()
        if message is None:
            return False
        if "method" in message:
            self.notifications.append(message)
        elif message["id"] is None:
            self.anonymous.append(message)
        else:
            self.replies[message["id"]] = message
        return True

    def send(self, method, params=None, fd=None, id=...):
        """A request; returns its id."""
        if id is ...:
            self.last_id += 1
            id = self.last_id
        message = {"jsonrpc": "2.0", "method": method}
        if id is not None:
            message["id"] = id
        if params is not None:
            message["params"] = params
        self.raw(json.dumps(message) + "\n", *([] if fd is None else [fd]))
        return id

    def reply(self, id):
        while id not in self.replies:
            if not self.take():
                raise EOFError("the daemon closed the connection")
        message = self.replies.pop(id)
        if "error" in message:
            raise Refused(message["error"])
        return message["result"]

    def refusal(self, id):
        try:
            result = self.reply(id)
        except Refused as e:
            return e
        raise AssertionError(f"expected a refusal, got {result}")

    def notification(self, method):
        while True:
            for n in self.notifications:
                if n["method"] == method:
                    self.notifications.remove(n)
                    return n["params"]
            if not self.take():
                raise EOFError("the daemon closed the connection")

    def call(self, method, params=None, fd=None):
        return self.reply(self.send(method, params, fd))

    def refuse(self, method, params=None, fd=None):
        return self.refusal(self.send(method, params, fd))

    def start_lock(self, path, flags, fd=None, **more):
        params = {"flags": flags.split("|"), **more}
        if path is not None:
            params["path"] = path
        if fd is not None:
            params["fd"] = True
        return self.send("lock", params, fd)

    def lock(self, path, flags, fd=None, **more):
        return self.reply(self.start_lock(path, flags, fd, **more))

    def busy(self, path, flags, fd=None, **more):
        """The lock is refused because somebody has it."""
        e = self.refusal(self.start_lock(path, flags, fd, **more))
        if e.code != 1:
            raise e
        return e

    def unlock(self, lock, **more):
        return self.call("unlock", {"lock": lock, **more})["released"]

    def ping(self):
        return self.call("ping")

    def is_silent(self):
        """Nothing more has come by the time a ping is answered."""
        before = len(self.replies)
        self.ping()
        return len(self.replies) == before


class Daemon:
    """portalockd on a socket of its own."""

    def __init__(self, *options, socket_path=None, state_dir=None, env=None, preexec_fn=None, log=None, program=PORTALOCKD):
        """`log`: a descriptor for its output; else a file."""
        self.folder = tempfile.mkdtemp(prefix="portalock-")
        self.path = socket_path or os.path.join(self.folder, "socket")
        self.log_path = os.path.join(self.folder, "log")
        self.client_pid, self.client_uid = os.getpid(), os.getuid()  # of all clients of ours
        if WINDOWS:
            with open(self.log_path, "wb") as file:
                self.ready = windows.start(self, program, options, state_dir or self.file("state"), file if log is None else log)
            if not self.ready:
                self.process.wait(PATIENCE)
            return
        ready, report = os.pipe()
        with open(self.log_path, "wb") as file:
            self.process = subprocess.Popen(
                [program, "--socket", self.path, "--state-dir", state_dir or self.file("state"), "--ready-fd", str(report), *options],
                stdin=subprocess.DEVNULL,
                stdout=file if log is None else log,
                stderr=file if log is None else log,
                pass_fds=[report],
                env=env,
                preexec_fn=preexec_fn,
            )
        os.close(report)
        with os.fdopen(ready) as f:
            self.ready = f.readline() == "READY\n"
        if not self.ready:
            self.process.wait(PATIENCE)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def connect(self, **more):
        return Client(self.path, **more)

    def file(self, name="file"):
        return os.path.join(self.folder, name)

    def open(self, name="file", flags=os.O_RDWR | os.O_CREAT):
        return os.open(self.file(name), flags, 0o666)

    def wait(self):
        return self.process.wait(PATIENCE)

    def end(self, signo=signal.SIGTERM):
        """Sends the signal, awaits the end and returns the exit code."""
        if WINDOWS and signo == signal.SIGTERM:  # there is no such thing there
            return self.ask_to_stop()
        self.process.send_signal(signo)
        if SIGNALS_GET_LOST:
            try:
                return self.process.wait(PATIENCE / 4)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signo)
        return self.wait()

    def ask_to_stop(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.connect() as c:
                try:
                    c.send("stop", {"force": True})
                    return self.process.wait(2)
                except (subprocess.TimeoutExpired, OSError):  # there were too many sessions, perhaps
                    if time.monotonic() > deadline:
                        raise

    def stop(self):
        """Ends it by its id and returns the exit code."""
        code = self.end() if self.process.poll() is None else self.process.returncode
        log = self.log()
        shutil.rmtree(self.folder, ignore_errors=True)
        if re.search("Sanitizer|runtime error", log):
            raise AssertionError(log)
        return code


class DaemonTest(unittest.TestCase):
    """A daemon for each test; it must end well."""

    options = ()

    def setUp(self):
        self.daemon = Daemon(*self.options)
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.fds = []
        self.path = self.daemon.file()

    def tearDown(self):
        for fd in self.fds:
            os.close(fd)
        code = self.daemon.stop()
        self.assertEqual(code, 0)

    def client(self, **more):
        c = self.daemon.connect(**more)
        self.addCleanup(c.close)
        return c

    def open(self, name="file"):
        """A description of our own, closed when the test ends."""
        fd = self.daemon.open(name)
        self.fds.append(fd)
        return fd

    def close(self, fd):
        self.fds.remove(fd)
        os.close(fd)

    def outsider(self, name="file", mode=fcntl.LOCK_EX):
        """A lock that the daemon does not know of; os.close() or flock(LOCK_UN) ends it."""
        fd = self.open(name)
        fcntl.flock(fd, mode)
        return fd

    def rows(self, client, **params):
        """The list as {path: file}."""
        return {f["path"]: f for f in client.call("list", params)["locks"]}

    def await_waiting(self, client, path, count):
        """Until `count` requests wait for the file."""
        deadline = time.monotonic() + PATIENCE
        while True:
            files = client.call("list", {"path": path, "outside": False, "state": "waiting"})["locks"]
            if sum(len(f["waiters"]) for f in files) == count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"never saw {count} waiting for {path}")


def await_end(socket_path):
    """Until nobody serves that socket any more: a daemon holds the lock beside it for life, and writes its state after its last answer."""
    with open(socket_path + ".lock", "ab") as f:
        fcntl.flock(f, fcntl.LOCK_EX)


def stood_ready(daemon):
    """Seconds in which the daemon's loop or we could have run, had the machine had a processor for us: nobody's fault."""
    total = 0
    for pid in (daemon.process.pid, os.getpid()):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[1])
    return total / 1e9


def is_free(path, mode=fcntl.LOCK_EX):
    """Can the kernel's lock be had now?"""
    if WINDOWS:
        return windows.is_free(path, "EX" if mode == fcntl.LOCK_EX else "SH")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
