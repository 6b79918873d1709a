"""The documents as the tests read them: chapters, tables, and examples that can be played against a real daemon.

PORTALOCK_DOCS names another folder of documents, to see the tests of them fail on a damaged copy.
"""

import fcntl
import json
import os
import re
import socket
import time

from users import ALICE, BOB
from wire import PATIENCE, Daemon

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCS = os.environ.get("PORTALOCK_DOCS", os.path.join(SOURCE, "docs"))
MILLISECONDS = {"held_ms", "waited_ms", "waiting_ms", "time_ms"}
ANY_TEXT = {"version", "message"}
DIGITS = {"device", "inode"}
FOLDER = "/srv"
LONG_NUMBER = re.compile(r"\b\d{16}\b")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def command():
    return read("/proc/self/comm").rstrip("\n")


class Document:
    """A markdown file: its chapters by heading, its fenced blocks, its tables."""

    def __init__(self, path):
        self.chapters = {}  # heading -> text without the examples
        self.blocks = []  # (language, line number, heading, lines)
        heading, block = "", None
        for number, line in enumerate(read(path).splitlines(), 1):
            if block is not None:
                if line.startswith("```"):
                    block = None
                else:
                    block.append(line)
            elif line.startswith("```"):
                block = []
                self.blocks.append((line[3:].strip(), number, heading, block))
            elif line.startswith("#"):
                heading = line.lstrip("#").strip()
                if heading in self.chapters:
                    raise AssertionError(f"line {number}: a second chapter '{heading}'")
                self.chapters[heading] = ""
            else:
                self.chapters[heading] += line + "\n"
        if block is not None:
            raise AssertionError("a block is never closed")

    def examples(self):
        return [Example(*rest) for language, *rest in self.blocks if language == "session"]

    def examples_of_two_users(self):
        return [Example(*rest) for language, *rest in self.blocks if language == "session of two users"]

    def rows(self, heading, *columns):
        """The rows of a chapter's table with these columns, as lists of cells; [] if it has no table."""
        lines = [line for line in self.chapters[heading].splitlines() if line.startswith("|")]
        cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
        if not cells:
            return []
        if cells[0] != list(columns):
            raise AssertionError(f"{heading}: the columns are {cells[0]}")
        return cells[2:]


class Example:
    """A session of the document: steps of (line number, who, text)."""

    STEP = re.compile(r"([CSD])(\d*): (.*)")

    def __init__(self, number, heading, lines):
        self.number, self.heading = number, heading
        self.steps = []
        for n, line in enumerate(lines, number + 1):
            m = self.STEP.fullmatch(line)
            if m:
                self.steps.append([n, m[1], m[2] or "1", m[3]])
            elif line.startswith(" ") and self.steps and self.steps[-1][1] in "CS":
                self.steps[-1][3] += line.strip()
            else:
                raise AssertionError(f"line {n}: neither C:, S: nor D:, nor the rest of one: {line!r}")

    def messages(self, kind):
        """The JSON objects among its lines, with the connection's number."""
        found = []
        for _, k, who, text in self.steps:
            if k == kind:
                try:
                    m = json.loads(text)
                except ValueError:
                    continue
                if isinstance(m, dict):
                    found.append((who, m))
        return found


class Mismatch(AssertionError):
    pass


class Matcher:
    """Compares an answer with the document's: exactly, but for what the document says differs from run to run."""

    def __init__(self, folder):
        self.folder = folder
        self.numbers = {}  # the document's -> the daemon's
        self.texts = {}

    def outgoing(self, text):
        """A line of the document as it is sent."""
        text = text.replace(FOLDER + "/", self.folder + "/")
        for documented, real in self.texts.items():
            text = text.replace(json.dumps(documented), json.dumps(real))
        return LONG_NUMBER.sub(lambda m: str(self.numbers.get(int(m[0]), m[0])), text)

    def number(self, want, got):
        if type(got) is not int or got <= 0:
            return False
        if want not in self.numbers:
            if got in self.numbers.values():
                return False
            self.numbers[want] = got
        return self.numbers[want] == got

    def varies(self, key, want, got):
        """None: it does not; else whether it is one of the values that are allowed."""
        if type(want) is int and LONG_NUMBER.fullmatch(str(want)):
            return self.number(want, got)
        if key in MILLISECONDS:
            return type(got) is int and got >= 0
        if key == "pid" and want != 0:
            return got == os.getpid()
        if key == "uid":
            return got == os.getuid()
        if key == "command" and want != "":
            return got == command()
        if key == "by" and want.startswith("break by "):
            return got == f"break by {command()}[{os.getpid()}] (uid {os.getuid()})"
        if key in ANY_TEXT:
            return isinstance(got, str) and got != ""
        if key in DIGITS and want is not None:
            return isinstance(got, str) and got.isdecimal()
        if key == "next":
            self.texts[want] = got
            return isinstance(got, str) and got != ""
        return None

    def compare(self, want, got, key=None, at="the line"):
        if type(want) is not type(got):
            raise Mismatch(f"{at}: {want!r} is documented, {got!r} came")
        if isinstance(want, dict):
            if want.keys() != got.keys():
                raise Mismatch(f"{at}: missing {sorted(want.keys() - got.keys())}, extra {sorted(got.keys() - want.keys())}")
            for k in want:
                self.compare(want[k], got[k], k, f"{at}.{k}")
            self.identity(got, at)
        elif isinstance(want, list):
            if len(want) != len(got):
                raise Mismatch(f"{at}: {len(want)} are documented, {len(got)} came: {got}")
            for i, (w, g) in enumerate(zip(want, got)):
                self.compare(w, g, None, f"{at}[{i}]")
        else:
            allowed = self.varies(key, want, got)
            if allowed is None and isinstance(want, str):
                allowed = want.replace(FOLDER + "/", self.folder + "/") == got
            if not (want == got if allowed is None else allowed):
                raise Mismatch(f"{at}: {want!r} is documented, {got!r} came")

    def identity(self, got, at):
        if {"path", "device", "inode"} <= got.keys() and got["path"] is not None:
            status = os.stat(got["path"])
            if (got["device"], got["inode"]) != (str(status.st_dev), str(status.st_ino)):
                raise Mismatch(f"{at}: not the file's device and inode")


class Connection:
    """One of an example's connections. What came but was not yet looked at stays in `lines`."""

    def __init__(self, client):
        self.client = client
        self.lines = []
        self.fd = None  # goes with the next line
        self.unseen = False  # the daemon may not have read yet what was sent
        self.writing = self.open = True
        self.syncs = 0

    def send(self, text):
        self.client.raw(text + "\n", *([] if self.fd is None else [self.fd]))
        self.fd = None
        self.unseen = True

    def next(self):
        """The next line; None at the end."""
        return self.lines.pop(0) if self.lines else self.client.line()

    def sync(self):
        """Until the daemon has taken everything in hand, or has ended the connection."""
        if not self.unseen or not self.writing or not self.open:
            return
        self.unseen = False
        self.syncs += 1
        id = f"test_docs {self.syncs}"
        try:
            self.client.send("ping", id=id)
        except (BrokenPipeError, ConnectionResetError):
            pass
        while True:
            message = self.client.line()
            if message is not None and message.get("id") == id:
                return
            self.lines.append(message)
            if message is None:
                return


class Run:
    """An example, played with a daemon of its own."""

    ACTIONS = (
        (r"open (/srv/\S+) as descriptor (\d+)", "open_file"),
        (r"close descriptor (\d+)", "close_file"),
        (r"descriptor (\d+) goes with the next line", "pass_file"),
        (r"flock descriptor (\d+) (LOCK_EX|LOCK_SH)( fails)?", "flock"),
        (r"shutdown for writing", "shutdown"),
        (r"close the connection", "hang_up"),
    )

    def __init__(self, daemon, example, matcher=None):
        self.daemon, self.example = daemon, example
        self.matcher = matcher or Matcher(daemon.folder)
        self.connections = {}
        self.fds = {}

    def connection(self, who):
        if who not in self.connections:
            self.connections[who] = Connection(self.daemon.connect())
        return self.connections[who]

    def others_first(self, who):
        """What one client sent is carried out before another does anything."""
        for k, c in self.connections.items():
            if k != who:
                c.sync()

    def play(self):
        for number, kind, who, text in self.example.steps:
            try:
                self.step(kind, who, text)
            except (Mismatch, OSError, ValueError, KeyError, IndexError) as e:
                raise AssertionError(f"protocol.md, line {number}: {text}\n{type(e).__name__}: {e}") from e
        for c in self.connections.values():
            c.sync()
            if [line for line in c.lines if line is not None]:
                raise AssertionError(f"protocol.md, line {self.example.number}: the example does not tell of {c.lines}")

    def step(self, kind, who, text):
        if kind == "C":
            self.others_first(who)
            self.connection(who).send(self.matcher.outgoing(text))
        elif kind == "S" and text == "the end of the connection":
            line = self.connection(who).next()
            if line is not None:
                raise Mismatch(f"{line} came")
            self.connection(who).open = False
        elif kind == "S":
            want, got = json.loads(text), self.connection(who).next()
            if got is None:
                raise Mismatch("the connection ended")
            self.matcher.compare(want, got)
        else:
            self.others_first(None)
            self.act(who, text)

    def act(self, who, text):
        for pattern, name in self.ACTIONS:
            m = re.fullmatch(pattern, text)
            if m:
                getattr(self, name)(who, *m.groups())
                return
        raise Mismatch("nobody knows how to do that")

    def open_file(self, _, path, number):
        self.fds[number] = os.open(self.matcher.outgoing(path), os.O_RDWR | os.O_CREAT, 0o666)

    def close_file(self, _, number):
        os.close(self.fds.pop(number))

    def pass_file(self, who, number):
        self.connection(who).fd = self.fds[number]

    def flock(self, _, number, mode, fails):
        try:
            fcntl.flock(self.fds[number], getattr(fcntl, mode) | fcntl.LOCK_NB)
        except BlockingIOError:
            if not fails:
                raise Mismatch("somebody has it") from None
        else:
            if fails:
                raise Mismatch("it was free")

    def shutdown(self, who):
        c = self.connection(who)
        c.client.socket.shutdown(socket.SHUT_WR)
        c.writing = False

    def hang_up(self, who):
        """Until the daemon has noticed."""
        c = self.connection(who)
        c.client.close()
        c.open = False
        left = sum(1 for c in self.connections.values() if c.open)
        deadline = time.monotonic() + PATIENCE
        with self.daemon.connect() as observer:
            while observer.call("stats")["gauges"]["sessions"] != left + 1:
                if time.monotonic() > deadline:
                    raise Mismatch("the daemon did not notice")

    def close(self):
        for c in self.connections.values():
            c.client.close()
        for fd in self.fds.values():
            os.close(fd)


def play(example):
    daemon = Daemon()
    try:
        if not daemon.ready:
            raise AssertionError(daemon.log())
        run = Run(daemon, example)
        try:
            run.play()
        finally:
            run.close()
    finally:
        code = daemon.stop()
    if code != 0:
        raise AssertionError(f"the daemon ended with {code}")


class MatcherOfUsers(Matcher):
    """Of two users: the document's uids are theirs, pids those of their processes."""

    UIDS = {1000: ALICE, 1001: BOB}

    def __init__(self, folder):
        super().__init__(folder)
        self.pids = {}  # uid -> pid

    def compare(self, want, got, key=None, at="the line"):
        super().compare(want, got, key, at)
        if isinstance(got, dict) and "pid" in got and got["pid"] != self.pids[got["uid"]]:
            raise Mismatch(f"{at}: not the pid of that user's process")

    def varies(self, key, want, got):
        if key == "pid":
            return got in self.pids.values()
        if key == "uid":
            return got == self.UIDS[want]
        return super().varies(key, want, got)


class RunOfUsers(Run):
    """An example of a daemon for all users: connection 1 is Alice's, 2 is Bob's."""

    def __init__(self, test, example):
        super().__init__(test.daemon, example, MatcherOfUsers(test.base))
        self.test = test

    def connection(self, who):
        if who not in self.connections:
            user = self.test.user({"1": ALICE, "2": BOB}[who])
            self.matcher.pids[user.uid] = user.pid
            self.connections[who] = Connection(user)
        return self.connections[who]
