"""docs/protocol.md is true: every example is run against a real daemon, every table is compared with the source it repeats.

PORTALOCK_DOCS names another folder of documents, to see these tests fail on a damaged copy.
"""

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import time
import unittest

from wire import PATIENCE, Daemon

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
        if key in DIGITS:
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
        if {"path", "device", "inode"} <= got.keys():
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

    def __init__(self, daemon, example):
        self.daemon, self.example = daemon, example
        self.matcher = Matcher(daemon.folder)
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


def method_table():
    """{method: [members]} of protocol/method.c."""
    source = read(SOURCE, "protocol", "method.c")
    rows = re.findall(r"\[PL_[A-Z]+\] = \{\"(\w+)\", \w+, \{([^}]*)\}\}", source)
    return {name: re.findall(r"\"(\w+)\"", members) for name, members in rows}


def error_table():
    """{code: name} of protocol/error.h."""
    return {int(code): name for code, name in re.findall(r"X\((-?\d+), (\w+), \"", read(SOURCE, "protocol", "error.h"))}


def limit_table():
    """{name: number} of protocol/wire.h."""
    limits = {}
    for line in read(SOURCE, "protocol", "wire.h").splitlines():
        m = re.fullmatch(r"#define PL_(\w+)\s+(\S.*?)\s*(/\*.*)?", line)
        if m:
            product = 1
            for factor in m[2].strip("()").split("*"):
                product *= int(re.fullmatch(r"(\d+)[uUlL]*", factor.strip())[1])
            limits[m[1]] = product
    return limits


def event_names():
    """What the daemon's sources tell watchers of."""
    names = {"overflow"}
    for name in os.listdir(os.path.join(SOURCE, "daemon")):
        if name.endswith(".c"):
            source = read(SOURCE, "daemon", name)
            names.update(re.findall(r'\b(?:watch_request|watch_grant|locking_ended)\(d, [^";]*"(\w+)"', source))
    return names


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


class Manual(unittest.TestCase):
    """docs/man/lockctl.1: a subcommand is what `.SS NAME` or the line behind `.TP` names in bold in the chapter COMMANDS."""

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


if __name__ == "__main__":
    unittest.main()
