"""docs/protocol.md is true: every example is run against a real daemon, every table is compared with the source it repeats."""

import math
import os
import re
import subprocess
import sys
import unittest

from documents import DOCS, SOURCE, Document, RunOfUsers, play, read
from users import UsersTest
from wire import PATIENCE, Daemon

EXAMPLES_MIN = 20
# No example can provoke these: memory runs out, a limit of thousands is reached.
WITHOUT_EXAMPLE = {"INTERNAL_ERROR", "LIMIT"}


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


if __name__ == "__main__":
    unittest.main()
