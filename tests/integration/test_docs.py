"""docs/protocol.md is true: every example is run against a real daemon, every table is compared with the source it repeats.

PORTALOCK_DOCS names another folder of documents, to see these tests fail on a damaged copy.
"""

import fcntl
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest

from users import ALICE, BOB, UsersTest
from wire import PATIENCE, PORTALOCKD, Daemon

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCS = os.environ.get("PORTALOCK_DOCS", os.path.join(SOURCE, "docs"))
LOCKCTL = os.environ.get("LOCKCTL", "lockctl")
EXAMPLES_MIN = 20
# No example can provoke these: memory runs out, a limit of thousands is reached.
WITHOUT_EXAMPLE = {"INTERNAL_ERROR", "LIMIT"}

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


def method_table():
    """{method: [members]} of protocol/method.c."""
    source = read(SOURCE, "protocol", "method.c")
    rows = re.findall(r"\[PL_[A-Z]+\] = \{\"(\w+)\", \w+, \{([^}]*)\}\}", source)
    return {name: re.findall(r"\"(\w+)\"", members) for name, members in rows}


def error_table():
    """{code: name} of protocol/error.h."""
    return {int(code): name for code, name in re.findall(r"X\((-?\d+), (\w+), \"", read(SOURCE, "protocol", "error.h"))}


def product(text):
    """Of a constant as C has it: "(256u * 1024u)"."""
    return math.prod(int(re.fullmatch(r"(\d+)[uUlL]*", factor.strip())[1]) for factor in text.strip("()").split("*"))


def limit_table():
    """{name: number} of protocol/wire.h."""
    limits = {}
    for line in read(SOURCE, "protocol", "wire.h").splitlines():
        m = re.fullmatch(r"#define PL_(\w+)\s+(\S.*?)\s*(/\*.*)?", line)
        if m:
            limits[m[1]] = product(m[2])
    return limits


def event_names():
    """What the daemon's sources tell watchers of."""
    names = {"overflow"}
    for name in os.listdir(os.path.join(SOURCE, "daemon")):
        if name.endswith(".c"):
            source = read(SOURCE, "daemon", name)
            names.update(re.findall(r'\b(?:watch_request|watch_grant|locking_ended)\(d, [^";]*"(\w+)"', source))
    return names


def daemon_source(*names):
    names = names or [n for n in sorted(os.listdir(os.path.join(SOURCE, "daemon"))) if n.endswith(".c")]
    return "".join(read(SOURCE, "daemon", name) for name in names)


def limit_names():
    """What may stand in data.limit."""
    names = set(re.findall(r'dispatch_refuse_limit\([^"{]*"(\w+)"', daemon_source()))
    names.update(re.findall(r'\*text = "(\w+)"', daemon_source("dispatch.c", "session.c")))
    names.update(re.findall(r'->limit, sizeof \w+->limit, "(\w+)"', "".join(read(SOURCE, "protocol", n) for n in ("message.c", "frame.c"))))
    return names


def account_table():
    """{what: number} of daemon/account.h."""
    source = read(SOURCE, "daemon", "account.h")
    return {name.lower(): product(number) for name, number in re.findall(r"#define ACCOUNT_(\w+)_MAX (\d+|\([^)]*\))", source)}


def code_names(text):
    return re.findall(r"`(\w+)`", text)


def keys_of(value):
    """Names of all members, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    return set()


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.document = Document(os.path.join(DOCS, "protocol.md"))
        cls.examples = cls.document.examples()
        cls.methods = method_table()
        cls.errors = error_table()

    def test_every_example_is_what_the_daemon_does(self):
        for example in self.examples:
            with self.subTest(line=example.number, chapter=example.heading):
                play(example)

    def test_there_are_enough_examples(self):
        self.assertGreaterEqual(len(self.examples), EXAMPLES_MIN)

    def answered(self, example):
        """(method, reply) of each request that an example shows an answer to."""
        for who, request in example.messages("C"):
            for other, reply in example.messages("S"):
                if other == who and "id" in request and reply.get("id") == request["id"]:
                    yield request.get("method"), reply

    def test_every_method_has_an_example_with_a_result_in_its_chapter(self):
        for method in self.methods:
            shown = [m for e in self.examples if e.heading == method for m, reply in self.answered(e) if "result" in reply]
            self.assertIn(method, shown)

    def test_every_notification_has_an_example(self):
        shown = {m["method"] for e in self.examples for _, m in e.messages("S") if "method" in m}
        self.assertEqual(shown, {"waiting", "lost", "event"})
        for name in shown:
            self.assertIn(name, self.document.chapters)

    def test_every_member_of_a_notification_is_explained_in_its_chapter(self):
        for example in self.examples:
            for _, m in example.messages("S"):
                if "method" in m:
                    explained = set(code_names(self.document.chapters[m["method"]]))
                    self.assertEqual(m["params"].keys() - explained, set(), f"line {example.number}: {m['method']}")

    def test_the_events_are_those_of_the_source(self):
        rows = self.document.rows("event", "event", "when")
        self.assertEqual(sorted(code_names(row[0])[0] for row in rows), sorted(event_names()))

    def test_every_method_has_a_chapter_with_its_params(self):
        self.assertGreaterEqual(len(self.methods), 8)
        for method, members in self.methods.items():
            with self.subTest(method):
                self.assertIn(method, self.document.chapters)
                rows = self.document.rows(method, "param", "type", "default", "meaning")
                self.assertEqual(sorted(code_names(row[0])[0] for row in rows), sorted(members))
                for row in rows:
                    self.assertTrue(all(row) and len(row) == 4, row)

    def test_there_is_no_chapter_of_a_method_that_is_not_there(self):
        text = read(DOCS, "protocol.md")
        chapters = re.search(r"^## Methods\n(.*?)^## ", text, re.M | re.S)[1]
        self.assertEqual(sorted(re.findall(r"^### (\w+)$", chapters, re.M)), sorted(self.methods))

    def test_every_member_of_a_result_is_explained_in_the_chapter_of_its_method(self):
        for example in self.examples:
            for method, reply in self.answered(example):
                if "result" in reply:
                    text = [line for line in self.document.chapters[method].splitlines() if not line.startswith("|")]
                    explained = set(code_names("\n".join(text)))
                    # The counters of stats are named after the methods.
                    missing = keys_of(reply["result"]) - explained - set(self.methods)
                    self.assertEqual(missing, set(), f"line {example.number}: {method}")

    def test_the_errors_are_those_of_error_h(self):
        rows = self.document.rows("Errors", "code", "name", "when", "data")
        self.assertEqual([(int(r[0]), *code_names(r[1])) for r in rows], list(self.errors.items()))
        self.assertGreaterEqual(len(rows), 15)
        for row in rows:
            self.assertTrue(row[2], row)

    def test_every_error_has_an_example_and_its_data_is_in_the_table(self):
        data = {int(r[0]): set(code_names(r[3])) for r in self.document.rows("Errors", "code", "name", "when", "data")}
        shown = set()
        for example in self.examples:
            for _, m in example.messages("S"):
                if "error" in m:
                    e = m["error"]
                    shown.add(e["data"]["name"])
                    self.assertEqual(self.errors[e["code"]], e["data"]["name"], f"line {example.number}")
                    self.assertLessEqual(e["data"].keys() - {"name"}, data[e["code"]], f"line {example.number}")
        self.assertEqual(set(self.errors.values()) - shown, WITHOUT_EXAMPLE)

    def test_the_limits_are_those_of_wire_h(self):
        rows = self.document.rows("Limits", "name", "number", "one past it")
        documented = {code_names(r[0])[0]: int(r[1]) for r in rows}
        self.assertEqual(len(documented), len(rows))
        self.assertEqual(documented, limit_table())
        self.assertGreaterEqual(len(rows), 20)
        for row in rows:
            self.assertTrue(row[2], row)

    def test_the_limits_of_a_user_are_those_of_account_h(self):
        rows = {code_names(r[0])[0]: r[1:] for r in self.document.rows("Limits for each user", "limit", "at most", "one past it")}
        self.assertEqual(set(rows), {name for name in limit_names() if name.endswith("_per_uid")})
        self.assertEqual(len(rows), 6)
        numbers = account_table()
        self.assertEqual(len(numbers), 5)
        for name, (at_most, past) in rows.items():
            number = numbers.get(name.removesuffix("_per_uid"), numbers["backlog_bytes"] if name.startswith("backlog") else None)
            self.assertEqual(re.findall(r"\d+", at_most), [] if number is None else [str(number)], name)
            self.assertTrue(past)

    def test_every_name_of_a_limit_is_listed_with_the_errors(self):
        item = re.search(r"^- `limit`: which:(.*?)^- ", self.document.chapters["Errors"], re.M | re.S)[1]
        names = re.findall(r'"(\w+)"', item)
        self.assertEqual(sorted(names), sorted(limit_names()))
        self.assertGreaterEqual(len(names), 14)

    def test_what_is_shown_of_others_is_what_the_source_writes(self):
        rows = self.document.rows("A daemon for all users", "members", "of your own uid", "of another")
        shown, null, left_out, files = (set(code_names(r[0])) for r in rows)
        source = daemon_source("rows.c", "listing.c", "watch.c")
        secret = set(re.findall(r'rows_secret\([^;]*?"(\w+)"', source))
        if_own = set(re.findall(r'if \([^;{]*?own[^;{]*?\)\s+pl_write_\w+\([^;]*?"(\w+)"', source))
        self.assertEqual(null, secret | (if_own & {"lock", "token"}))
        self.assertEqual(left_out, if_own - {"lock", "token"})
        self.assertEqual(files, {"path", "device", "inode", "outside"})
        written = set(re.findall(r'pl_write_\w+\([^;]*?"(\w+)"', source)) - {"holders", "locks", "next", "dropped"}
        self.assertEqual(shown, written - null - left_out - files)

    def test_links_lead_somewhere(self):
        text = read(DOCS, "protocol.md")
        anchors = {h.lower().replace(" ", "-") for h in self.document.chapters}
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("#"):
                self.assertIn(target[1:], anchors)
            else:
                self.assertTrue(os.path.exists(os.path.join(DOCS, target)), target)

    def test_the_whole_client_works(self):
        programs = ["\n".join(lines) for language, _, _, lines in self.document.blocks if language == "python"]
        self.assertEqual(len(programs), 1)
        daemon = Daemon()
        try:
            env = dict(os.environ, PORTALOCK_SOCKET=daemon.path)
            done = subprocess.run(
                [sys.executable, "-c", programs[0]], cwd=daemon.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE
            )
        finally:
            code = daemon.stop()
        self.assertRegex(done.stdout, r"^alone, token \d{16}\n$")
        self.assertEqual((done.returncode, code), (0, 0))


class System(UsersTest):
    """The examples of a daemon for all users, with two of them."""

    def test_every_example_is_what_the_daemon_does(self):
        examples = Document(os.path.join(DOCS, "protocol.md")).examples_of_two_users()
        self.assertEqual(len(examples), 1)  # each needs a daemon of its own
        run = RunOfUsers(self, examples[0])
        try:
            run.play()
        finally:
            run.close()


class Manual(unittest.TestCase):
    """The manual pages. In lockctl.1 a subcommand is what `.SS NAME` or the line behind `.TP` names in bold in the chapter COMMANDS."""

    def help(self, *names):
        return subprocess.run([LOCKCTL, "help", *names], stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE).stdout

    def commands(self):
        return re.findall(r"^  ([a-z][a-z\-]*)  +\S", self.help(), re.M)

    def documented(self):
        page = read(DOCS, "man", "lockctl.1")
        chapter = re.search(r"^\.SH \"?(?:SUB)?COMMANDS\"?\n(.*?)(?=^\.SH |\Z)", page, re.M | re.S)
        self.assertIsNotNone(chapter, "lockctl.1 has no chapter COMMANDS")
        return re.findall(r"^(?:\.SS |\.TP.*\n(?:\.B[RI]? )?)\"?(?:\\fB)?(?:lockctl )?([a-z][a-z\-]*)", chapter[1], re.M)

    def test_the_subcommands_are_those_of_lockctl_help(self):
        commands = self.commands()
        self.assertIn("run", commands)
        self.assertEqual(sorted(self.documented()), sorted(commands))

    def test_every_option_and_column_is_documented(self):
        page = read(DOCS, "man", "lockctl.1").replace("\\-", "-")
        for command in self.commands():
            text = self.help(command)
            self.assertEqual([o for o in re.findall(r"--[a-z\-]+", text) if o not in page], [], command)
            columns = text.split("columns:\n")[1:]
            self.assertEqual([c for c in re.findall(r"^  ([A-Z\-]+) ", "".join(columns), re.M) if f".TP\n{c}\n" not in page.replace(".TP 10", ".TP")], [])

    def page(self, name):
        return read(DOCS, "man", name).replace("\\-", "-")

    def chapter(self, name, heading):
        return re.search(rf"^\.SH {heading}\n(.*?)(?=^\.SH |\Z)", self.page(name), re.M | re.S)[1]

    def test_the_exit_codes_of_lockctl_are_those_of_its_source(self):
        codes = set(map(int, re.findall(r"\bEXIT_\w+ = (\d+)", read(SOURCE, "client", "lockctl", "lockctl.h"))))
        self.assertGreaterEqual(len(codes), 11)
        self.assertEqual(list(map(int, re.findall(r"^\.TP.*\n(\d+)$", self.chapter("lockctl.1", "EXIT STATUS"), re.M))), sorted(codes | {0}))

    def test_the_exit_codes_of_portalockd_are_those_of_its_source(self):
        codes = re.findall(r"\bDAEMON_EXIT_\w+ = (\d+)", read(SOURCE, "daemon", "daemon.h"))
        self.assertEqual(re.findall(r"^\.TP.*\n(\d+)$", self.chapter("portalockd.1", "EXIT STATUS"), re.M), codes)
        self.assertEqual(len(codes), 4)

    def test_the_options_of_portalockd_are_those_of_its_help(self):
        text = subprocess.run([PORTALOCKD, "--help"], stdout=subprocess.PIPE, check=True, text=True, timeout=PATIENCE).stdout
        options = re.findall(r"^  (--[a-z\-]+)", text, re.M)
        self.assertGreaterEqual(len(options), 10)
        self.assertEqual(sorted(re.findall(r"--[a-z\-]+", "\n".join(self.chapter("portalockd.1", "OPTIONS").split(".TP\n")[1:]))), sorted(options))
        synopsis = set(re.findall(r"--[a-z\-]+", self.chapter("portalockd.1", "SYNOPSIS")))
        self.assertEqual(synopsis, set(options) - {"--version", "--help"})

    def test_what_is_read_from_the_environment_is_documented(self):
        for page, folders in (("portalockd.1", ("daemon", "protocol")), ("lockctl.1", ("client", "protocol"))):
            names = set()
            for folder in folders:
                for where, _, files in os.walk(os.path.join(SOURCE, folder)):
                    for name in files:
                        if name.endswith(".c"):
                            names.update(re.findall(r'getenv\("(\w+)"\)', read(where, name)))
            self.assertGreaterEqual(len(names), 4)
            documented = set(re.findall(r"^\.BR? (\w+)", self.chapter(page, "ENVIRONMENT"), re.M))
            self.assertEqual(names - documented, set(), page)

    def test_what_lockctl_tells_its_command_is_documented(self):
        told = set(re.findall(r'os_set_variable\("(\w+)"', read(SOURCE, "client", "lockctl", "run.c")))
        self.assertEqual(len(told), 3)
        self.assertLessEqual(told, set(re.findall(r"^\.B (\w+)", self.chapter("lockctl.1", "ENVIRONMENT"), re.M)))

    @unittest.skipUnless(shutil.which("groff"), "needs groff")
    def test_the_pages_are_formatted_without_a_warning(self):
        for name in ("lockctl.1", "portalockd.1"):
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", os.path.join(DOCS, "man", name)], capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
