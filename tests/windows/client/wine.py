"""Programs of the Windows build, started from here: under Linux by Wine, on Windows itself as they are."""

import os
import pathlib
import queue
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

WINE = os.environ.get("WINE", "")
PATIENCE = 60.0  # seconds after which an awaited event is given up: a failure, never a pause


def windows_path(path):
    """As the programs know it."""
    path = str(path)
    return "Z:" + path.replace("/", "\\") if WINE else path


def program(name):
    """From the environment: LOCKCTL, RECIPE, COUNTER, ARGUMENTS."""
    return os.environ[name]


class Running:
    """
    A program that runs; its output comes by lines. Standard error is a file: Wine gives Linux' descriptor 2 to every process that comes of one, the daemon
    too, so that a pipe would not end.
    """

    def __init__(self, words, **options):
        command = ([WINE] if WINE else []) + words
        self.stderr = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr, **options)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read_lines, daemon=True)
        self.reader.start()

    @property
    def errors(self):
        """What it has said so far."""
        return os.pread(self.stderr.fileno(), 1 << 20, 0).decode()

    def _read_lines(self):
        for line in self.process.stdout:
            self.lines.put((time.monotonic(), line.decode().rstrip("\r\n")))
        self.lines.put((time.monotonic(), None))

    def line(self, timeout=PATIENCE):
        """The next line; None at the end."""
        return self.timed_line(timeout)[1]

    def timed_line(self, timeout=PATIENCE):
        """When it came, too."""
        try:
            return self.lines.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no line from {self.process.args}") from None

    def is_silent(self, seconds):
        """Nothing comes for so long."""
        try:
            self.lines.put(self.lines.get(timeout=seconds))
            return False
        except queue.Empty:
            return True

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self):
        self.process.stdin.close()

    def kill(self):
        """As the task manager does."""
        self.process.kill()
        return self.process.wait(PATIENCE)

    def wait(self):
        """Its exit code, with its input at the end; afterwards its output is whole."""
        if not self.process.stdin.closed:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code

    def close(self):
        if self.process.poll() is None:
            self.kill()
        self.wait()
        self.process.stdout.close()
        self.stderr.close()

    def rest(self):
        lines = []
        while (line := self.line()) is not None:
            lines.append(line)
        return lines


class Case(unittest.TestCase):
    """A folder and a daemon's name of its own for each test. The daemon is started by whoever needs it first."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="portalock-win-"))
        self.file = self.folder / "f.lock"
        self.environment = dict(os.environ, PORTALOCK_SOCKET=self.folder.name, PORTALOCKD=windows_path(os.environ["PORTALOCKD"]))
        self.running = []

    def tearDown(self):
        for r in self.running:
            r.close()
        self.run_lockctl("stop", "--force")
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, *words, **variables):
        r = Running([program(name), *words], cwd=self.folder, env=dict(self.environment, **variables))
        self.running.append(r)
        return r

    def lockctl(self, *words, **variables):
        return self.start("LOCKCTL", *words, **variables)

    def run_lockctl(self, *words, **variables):
        """To its end: code, standard output, standard error."""
        command = ([WINE] if WINE else []) + [program("LOCKCTL"), *words]
        with tempfile.TemporaryFile() as stderr:
            done = subprocess.run(command, cwd=self.folder, env=dict(self.environment, **variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                                  timeout=PATIENCE)
            stderr.seek(0)
            return done.returncode, done.stdout.decode(), stderr.read().decode()

    def recipe(self, *flags):
        return self.start("RECIPE", windows_path(self.file), *flags)

    def hold(self, *words):
        """A lockctl run that holds the lock until its input ends, or it is killed."""
        r = self.lockctl("run", *words, "f.lock", windows_path(program("RECIPE")), windows_path(self.folder / "elsewhere"), "SH_NB")
        self.assertEqual(r.line(), "SH_NB ok", r.errors)
        return r

    def await_rows(self, state, count):
        """Until the list has so many in that state."""
        deadline = time.monotonic() + PATIENCE
        while True:
            out = self.run_lockctl("list", "-n", "-o", "STATE", "f.lock")[1]
            if out.split().count(state) == count:
                return
            self.assertLess(time.monotonic(), deadline, out)

    def await_waiting(self, count):
        self.await_rows("waiting", count)
