"""What runs out is named and hinders nobody for longer than it must: descriptors, and the loop's time."""

import fcntl
import json
import os
import re
import resource
import socket
import time
import unittest

from wire import Daemon, DaemonTest, Refused, is_free

EX = "LOCK_EX"


def line(id, method, **params):
    return f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{json.dumps(params)}}}\n'


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Descriptors(unittest.TestCase):
    def start(self, limit):
        self.daemon = Daemon(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
        self.addCleanup(lambda: self.assertEqual(self.daemon.stop(), 0))
        self.assertTrue(self.daemon.ready, self.daemon.log())

    def client(self):
        c = self.daemon.connect()
        self.addCleanup(c.close)
        return c

    def descriptor(self):
        fd = self.daemon.open()
        self.addCleanup(os.close, fd)
        return fd

    def is_served(self, client, timeout=0.5):
        id = client.send("ping")
        try:
            return client.line(timeout) == {"jsonrpc": "2.0", "id": id, "result": {}}
        except TimeoutError:
            return False

    def test_connections_are_accepted_again_when_locks_were_released(self):
        self.start(512)
        a = self.client()
        locks = [a.lock(self.daemon.file(f"f{i}"), EX)["lock"] for i in range(384)]
        last = self.client()
        while self.is_served(last):
            last = self.client()
        self.assertIn("event=accept_paused", self.daemon.log())
        for lock in locks:
            a.unlock(lock)
        self.assertEqual(last.line()["result"], {})  # nobody's session had to end for it
        self.assertEqual(a.call("stats")["gauges"]["descriptors"], 0)

    def test_descriptors_that_nobody_claims_keep_no_new_client_out(self):
        self.start(256)
        fd = self.descriptor()
        hoarders = [self.client() for _ in range(6)]
        for c in hoarders:
            for _ in range(60):
                c.raw(" ", fd)
        newcomer = self.client()
        self.assertTrue(self.is_served(newcomer, 20))
        newcomer.unlock(newcomer.lock(None, EX, self.descriptor())["lock"])
        before = cpu_seconds(self.daemon.process.pid)
        time.sleep(1)
        self.assertLess(cpu_seconds(self.daemon.process.pid) - before, 0.3)
        # Each is answered, be it that its descriptor was dropped.
        codes = set()
        for c in hoarders:
            for _ in range(60):
                try:
                    c.unlock(c.reply(c.send("lock", {"fd": True, "flags": ["LOCK_SH"]}))["lock"])
                except Exception as e:
                    codes.add((e.code, e.data["limit"]))
        self.assertEqual(codes, {(8, "descriptors")})
        self.assertEqual(newcomer.call("stats")["gauges"]["descriptors_open"], 32 + 7)

    def test_what_frees_descriptors_gets_through(self):
        self.start(256)
        fd = self.descriptor()
        a = self.client()
        locks = [a.lock(self.daemon.file(f"f{i}"), EX)["lock"] for i in range(100)]
        waiting = self.client()
        waits = waiting.start_lock(self.daemon.file("f0"), EX)
        hoarders = [self.client() for _ in range(6)]
        for c in hoarders:
            for _ in range(30):
                c.raw(" ", fd)
        # Held back: but what stands before it in the stream, and whoever passes none, goes on.
        hoarders[0].raw(line(1, "ping") + line(2, "lock", path=self.daemon.file("own"), flags=[EX]))
        hoarders[0].raw(line(3, "ping"), fd)
        self.assertEqual(waiting.call("cancel", {"id": waits}), {"cancelled": True})
        for lock in locks:
            self.assertTrue(a.unlock(lock))
        self.assertEqual(hoarders[0].reply(1), {})
        self.assertEqual(hoarders[0].reply(2)["mode"], EX)
        self.assertEqual(hoarders[0].reply(3), {})
        hoarders[0].close()  # noticed, though its descriptors are held back
        while not is_free(self.daemon.file("own")):
            time.sleep(0.01)
        for c in hoarders[1:]:
            c.close()
        while a.call("stats")["gauges"]["descriptors_open"] > 32 + 2:
            time.sleep(0.01)

    def test_accepting_without_descriptors_does_not_spin(self):
        self.start(256)
        a = self.client()
        a.ping()
        pid = self.daemon.process.pid
        open_now = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now, 256))  # less than the daemon believes
        b = self.client()
        id = b.send("ping")
        before = cpu_seconds(pid)
        time.sleep(1)
        self.assertLess(cpu_seconds(pid) - before, 0.3)
        self.assertEqual(self.daemon.log().count("event=accept_failed errno=EMFILE"), 1)
        a.ping()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
        self.assertEqual(b.reply(id), {})

    def test_a_description_that_bears_the_lock_is_known_without_a_free_descriptor(self):
        self.start(256)
        a, b = self.client(), self.client()
        fd = self.descriptor()
        fcntl.flock(fd, fcntl.LOCK_EX)  # by itself, so the daemon must ask the kernel
        waits = b.start_lock(self.daemon.file(), EX)
        while a.call("stats")["gauges"]["waiting"] == 0:
            pass
        a.call("list")  # the look at outsiders, which opens a file for a moment, is over
        a.raw(" ", fd)
        a.ping()
        pid = self.daemon.process.pid
        open_now = sorted(int(n) for n in os.listdir(f"/proc/{pid}/fd"))
        self.assertEqual(open_now, list(range(len(open_now))))  # no gap: the limit is on the number
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(open_now), 256))
        held = a.reply(a.send("lock", {"fd": True, "flags": [EX]}))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
        a.unlock(held["lock"])
        b.reply(waits)


    def test_nobody_gets_anothers_file_when_none_can_be_received(self):
        self.start(256)
        clients = [self.client() for _ in range(8)]
        for c in clients:
            c.ping()
        pid = self.daemon.process.pid
        asked = []
        for turn in range(40):
            if turn == 10:
                open_now = sorted(int(n) for n in os.listdir(f"/proc/{pid}/fd"))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (open_now[-1] + 1, 256))  # less than the daemon believes: EMFILE
            if turn == 30:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (256, 256))
            for i, c in enumerate(clients):
                name = f"client{i}turn{turn}"
                fd = self.daemon.open(name)
                asked.append((c, self.daemon.file(name), c.send("lock", {"fd": True, "flags": [EX], "detach": True}, fd)))
                os.close(fd)
            for c in clients:  # taken in hand before the limit changes
                c.ping()
        refused = []
        for c, path, id in asked:
            try:
                self.assertEqual(c.reply(id)["path"], path)
            except Refused as e:
                self.assertEqual((e.code, e.data["limit"]), (8, "descriptors"))
                refused.append(path)
        self.assertEqual(refused, [self.daemon.file(f"client{i}turn{t}") for t in range(10, 30) for i in range(8)])


class Table(unittest.TestCase):
    """What docs/testing.md says of limits and their tests."""

    ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

    def read(self, *names):
        with open(os.path.join(self.ROOT, *names), encoding="utf-8") as f:
            return f.read()

    def test_every_limit_has_a_test_that_exists(self):
        rows = re.findall(r"^\| (.+?) \| (.+?) \|$", self.read("docs", "testing.md").split("\n## Limits\n")[1].split("\n## ")[0], re.MULTILINE)
        named = {name for left, _ in rows for name in re.findall(r"`([A-Z_]+)`", left)}
        self.assertEqual(named, {name.removeprefix("PL_") for name in re.findall(r"^#define (PL_\w+) .", self.read("protocol", "wire.h"), re.MULTILINE)})
        tests = ""
        for folder in ("unit", "integration"):
            for name in os.listdir(os.path.join(self.ROOT, "tests", folder)):
                if name.startswith("test_"):
                    tests += self.read("tests", folder, name)
        for _, right in rows:
            for name in re.findall(r"`(\w+)`", right):
                self.assertRegex(tests, rf"(def|static void) {name}\(")


class Counts(DaemonTest):
    """So many, and one more is refused by name; those that are there are not touched."""

    MOST = 100000  # locks and waiting requests of a session
    SESSIONS = 300
    options = ("--max-sessions", str(SESSIONS))  # the default would take more descriptors than most systems give
    BATCH = 500

    def setUp(self):
        super().setUp()

    def client(self, **more):
        c = super().client(**more)
        c.last_id = 10**6  # below are ids by number
        return c

    def ask(self, client, first, count, flags):
        """Requests for one file, each by an owner of its own."""
        text = "".join(line(i, "lock", path=self.path, flags=[flags], handle=i) for i in range(first, first + count))
        client.raw(text)

    def refused(self, client, id, limit):
        e = client.refusal(id)
        self.assertEqual((e.code, e.data["name"], e.data["limit"]), (8, "LIMIT", limit))

    def test_waiting_requests_of_a_session(self):
        a, b, c = self.client(concurrent=True), self.client(), self.client()
        held = c.lock(self.path, EX)["lock"]
        for first in range(1, self.MOST + 1, self.BATCH):
            self.ask(a, first, self.BATCH, EX)
            a.ping()
        self.assertEqual(a.replies, {})
        self.ask(a, self.MOST + 1, 1, EX)
        self.refused(a, self.MOST + 1, "waiting_per_session")
        self.assertEqual(b.call("stats")["gauges"]["waiting"], self.MOST)
        waits = b.start_lock(self.path, EX, timeout_ms=0)  # the limit is the session's, not everybody's
        self.assertEqual(b.refusal(waits).code, 1)
        self.assertEqual(a.call("cancel", {"id": 1}), {"cancelled": True})
        self.ask(a, self.MOST + 2, 1, EX)
        a.ping()
        self.assertNotIn(self.MOST + 2, a.replies)  # there is room for it again
        c.unlock(held)
        self.assertEqual(a.reply(2)["mode"], EX)

    def test_locks_of_a_session(self):
        a = self.client()
        for first in range(1, self.MOST + 1, self.BATCH):
            self.ask(a, first, self.BATCH, "LOCK_SH")
            for id in range(first, first + self.BATCH):
                lock = a.reply(id)["lock"]
        self.ask(a, self.MOST + 1, 1, "LOCK_SH")
        self.refused(a, self.MOST + 1, "locks_per_session")
        self.ask(a, 1, 1, "LOCK_SH")
        self.refused(a, 1, "locks_per_session")  # even a relock
        a.unlock(lock)
        self.ask(a, self.MOST + 2, 1, "LOCK_SH")
        self.assertEqual(a.reply(self.MOST + 2)["mode"], "LOCK_SH")
        with self.daemon.connect() as b:
            b.lock(self.path, "LOCK_SH")

    def test_sessions(self):
        clients = [self.client() for _ in range(self.SESSIONS)]
        clients[-1].ping()  # all before it have been accepted
        with self.daemon.connect() as one_more:
            m = one_more.line()
            self.assertEqual((m["id"], m["error"]["code"], m["error"]["data"]["limit"]), (None, 8, "sessions"))
            self.assertIsNone(one_more.line())
        self.assertIn("event=refused", self.daemon.log())
        clients[0].ping()
        clients[1].close()
        while clients[0].call("stats")["gauges"]["sessions"] == self.SESSIONS:
            pass
        with self.daemon.connect() as again:
            again.ping()


class Threads(DaemonTest):
    MOST = 256  # that wait in the kernel for local files

    def test_waits_beyond_the_threads_are_tried_again_and_granted(self):
        c = self.client()
        outsiders = [self.outsider(f"f{i}") for i in range(self.MOST + 4)]
        ids = [c.start_lock(self.daemon.file(f"f{i}"), EX) for i in range(self.MOST + 4)]
        while (gauges := c.call("stats")["gauges"])["kernel_waits"] < self.MOST + 4:
            pass
        self.assertEqual((gauges["kernel_wait_threads"], gauges["kernel_wait_retries"]), (self.MOST, 4))
        with self.daemon.connect() as other:
            other.unlock(other.lock(self.path, EX)["lock"])
        for fd in reversed(outsiders):  # the last first: those without a thread
            fcntl.flock(fd, fcntl.LOCK_UN)
        for id in ids:
            c.reply(id)


class Shares(DaemonTest):
    """Each line of these costs the daemon milliseconds: a list over many files that finds nothing."""

    FILES, LISTS = 1500, 150

    def setUp(self):
        super().setUp()
        self.holder = self.client()
        for start in range(0, self.FILES, 100):
            ids = [self.holder.start_lock(self.daemon.file(f"f{i}"), EX) for i in range(start, start + 100)]
            for id in ids:
                self.holder.reply(id)

    def lists(self):
        return "".join(line(i, "list", session=1, outside=False) for i in range(1, self.LISTS + 1))

    def test_others_have_their_turn_between_the_lines_of_one_write(self):
        a, b = self.client(), self.client()
        b.ping()
        a.raw(self.lists())
        a.take()  # it has begun
        b.ping()
        done = len(a.replies) + a.buffer.count(b"\n")
        a.socket.setblocking(False)
        try:
            done += a.socket.recv(1 << 20).count(b"\n")
        except BlockingIOError:
            pass
        self.assertLess(done, self.LISTS)

    def test_after_a_half_close_all_lines_are_answered(self):
        a = self.client()
        a.raw(self.lists())
        a.socket.shutdown(socket.SHUT_WR)
        for i in range(1, self.LISTS + 1):
            self.assertEqual(a.reply(i), {"locks": []})

    def test_what_was_sent_before_a_hang_up_is_carried_out(self):
        self.holder.close()
        a = self.client()
        pings = "".join(line(i, "unlock", path=self.daemon.file("nothing")) for i in range(1, 500))
        a.raw(pings + line(1000, "stop", force=True))
        a.close()
        self.assertEqual(self.daemon.wait(), 0)

    def test_the_locks_of_one_who_has_gone_do_not_wait_for_its_questions(self):
        a = self.client()
        a.lock(self.path, EX)
        a.raw(self.lists())
        a.take()
        a.close()
        b = self.client()
        began = time.monotonic()
        b.lock(self.path, EX)
        self.assertLess(time.monotonic() - began, 0.2 * float(os.environ.get("PORTALOCK_SLOW", "1")))


if __name__ == "__main__":
    unittest.main()
