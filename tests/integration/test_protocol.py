"""Every rule of docs/protocol.md about lines, requests, replies and descriptors."""

import json
import os
import socket
import time
import unittest

from wire import PATIENCE, WINDOWS, DaemonTest, Refused, needs

NOT_JSON = -32700
NOT_A_REQUEST = -32600
NO_METHOD = -32601
BAD_PARAMS = -32602


class Lines(DaemonTest):
    def setUp(self):
        super().setUp()
        self.c = self.client()

    def answer(self, line):
        self.c.raw(line if isinstance(line, bytes) else line.encode())
        return self.c.line()

    def refused(self, line, code, id=None):
        m = self.answer(line)
        self.assertEqual((m["error"]["code"], m["id"]), (code, id), line)
        self.assertEqual(m["jsonrpc"], "2.0")
        self.assertTrue(m["error"]["data"]["name"])
        self.c.ping()  # the connection lives on
        return m["error"]

    def test_blank_lines_are_ignored(self):
        self.assertEqual(self.answer('\n\n  \n\r\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n')["result"], {})

    @needs("half-closed pipes")
    def test_a_last_line_without_lf_is_not_carried_out(self):
        self.c.raw('{"jsonrpc":"2.0","id":1,"method":"ping"}\n{"jsonrpc":"2.0","id":2,"method":"ping"}')
        self.c.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(self.c.line()["id"], 1)
        other = self.client()
        other.ping()
        self.c.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            self.c.socket.recv(1)
        self.assertEqual(other.call("stats")["counters"]["ping"], 2)

    def test_what_is_not_json_is_refused_with_id_null(self):
        for line in (
            b"{\n",
            b"hello\n",
            b'{"jsonrpc":"2.0","id":1,"method":"ping"} x\n',
            b'{"jsonrpc":"2.0","id":1,"method":"ping"}{}\n',
            b'{"jsonrpc":"2.0","id":1,"method":"pi\xffng"}\n',
            b'{"jsonrpc":"2.0","id":1,"method":"ping\\u0000"}\n',
            b'{"jsonrpc":"2.0","id":1,"method":"pi\x00ng"}\n',
            b'\x00\n',
            b'{"jsonrpc":"2.0","id":1,"method":"a\tb"}\n',
            b'{"jsonrpc":"2.0","id":1,"method":"\\ud800"}\n',
            b'{"jsonrpc":"2.0","id":1e999,"method":"ping"}\n',
            b'{"jsonrpc":"2.0","id":01,"method":"ping"}\n',
            b"{'jsonrpc':'2.0'}\n",
            b'{"jsonrpc":"2.0","id":1,"method":"ping",}\n',
            b"nul\n",
            b"\xef\xbb\xbf{}\n",
        ):
            self.refused(line, NOT_JSON)

    def test_more_than_128_levels_are_refused(self):
        deep = "[" * 125 + "]" * 125
        ok = '{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":%s}}\n'
        self.refused(ok % deep, BAD_PARAMS, 1)  # 2 + 125 levels: read, and refused for its member
        for levels in (127, 5000):
            e = self.refused(ok % ("[" * levels + "]" * levels), NOT_JSON)
            self.assertEqual(e["data"]["limit"], "depth")

    def test_a_line_of_64_kib_is_read_and_one_byte_more_is_not(self):
        head, tail = '{"jsonrpc":"2.0","id":1,"method":"ping"', "}"
        self.assertEqual(self.answer(head + " " * (65536 - len(head + tail)) + tail + "\n")["id"], 1)
        e = self.refused(head + " " * (65537 - len(head + tail)) + tail + "\n", NOT_JSON)
        self.assertEqual(e["data"]["limit"], "line")

    def test_requests_that_are_none(self):
        for line, id in (
            ("[]", None),
            ('[{"jsonrpc":"2.0","id":1,"method":"ping"}]', None),
            ("1", None),
            ('"ping"', None),
            ("null", None),
            ("{}", None),
            ('{"jsonrpc":"2.0","id":null,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":1.5,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":9007199254740992,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":-9007199254740992,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":{},"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":[1],"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":true,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":"%s","method":"ping"}' % ("x" * 129), None),
            ('{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', None),
            ('{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}', 1),
            ('{"jsonrpc":"2.0","id":1,"method":"ping","more":1}', 1),
            ('{"jsonrpc":"2.0","id":1,"Method":"ping"}', 1),
            ('{"jsonrpc":"1.0","id":1,"method":"ping"}', 1),
            ('{"jsonrpc":2.0,"id":1,"method":"ping"}', 1),
            ('{"id":1,"method":"ping"}', 1),
            ('{"jsonrpc":"2.0","id":1}', 1),
            ('{"jsonrpc":"2.0","id":1,"method":5}', 1),
        ):
            self.refused(line + "\n", NOT_A_REQUEST, id)

    def test_ids_come_back_as_they_came(self):
        for id in (0, -1, 9007199254740991, -9007199254740991, "", "x" * 128, "ü\u2028\"\\\n", "7"):
            m = self.answer(json.dumps({"jsonrpc": "2.0", "id": id, "method": "ping"}) + "\n")
            self.assertEqual(m["id"], id)

    def test_without_id_it_is_carried_out_and_not_answered(self):
        self.c.send("lock", {"path": self.path, "flags": ["LOCK_EX"]}, id=None)
        self.c.send("lock", {"path": self.path, "flags": "no"}, id=None)
        self.c.send("nothing", {}, id=None)
        self.assertTrue(self.c.is_silent())
        self.client().busy(self.path, "LOCK_EX|LOCK_NB")

    def test_an_unknown_method(self):
        for name in ("nothing", "PING", "ping ", "", "watch\u00e9"):
            self.assertEqual(self.c.refuse(name).code, NO_METHOD)

    def test_params(self):
        lock = {"path": self.path, "flags": ["LOCK_EX"]}
        for method, params, member in (
            ("ping", [], "params"),
            ("ping", 5, "params"),
            ("ping", {"x": 1}, "x"),
            ("stop", {"force": 1}, "force"),
            ("lock", {}, "path"),
            ("lock", {"path": self.path}, "flags"),
            ("lock", {"flags": ["LOCK_EX"]}, "path"),
            ("lock", {**lock, "path": "relative"}, "path"),
            ("lock", {**lock, "path": ""}, "path"),
            ("lock", {**lock, "path": 1}, "path"),
            ("lock", {**lock, "path": "/" + "x" * 4096}, "path"),
            ("lock", {**lock, "flags": "LOCK_EX"}, "flags"),
            ("lock", {**lock, "flags": []}, "flags"),
            ("lock", {**lock, "flags": ["LOCK_NB"]}, "flags"),
            ("lock", {**lock, "flags": ["LOCK_EX", "LOCK_SH"]}, "flags"),
            ("lock", {**lock, "flags": ["LOCK_EX", "LOCK_EX"]}, "flags"),
            ("lock", {**lock, "flags": ["LOCK_UN"]}, "flags"),
            ("lock", {**lock, "flags": ["lock_ex"]}, "flags"),
            ("lock", {**lock, "flags": [2]}, "flags"),
            ("lock", {**lock, "handle": -1}, "handle"),
            ("lock", {**lock, "handle": 2147483648}, "handle"),
            ("lock", {**lock, "handle": 1.5}, "handle"),
            ("lock", {**lock, "timeout_ms": -1}, "timeout_ms"),
            ("lock", {**lock, "timeout_ms": "5"}, "timeout_ms"),
            ("lock", {**lock, "timeout_ms": 9007199254740992}, "timeout_ms"),
            ("lock", {**lock, "timeout_ms": None}, "timeout_ms"),
            ("lock", {**lock, "create": "yes"}, "create"),
            ("lock", {**lock, "detach": True}, "detach"),
            ("lock", {**lock, "Flags": []}, "Flags"),
            ("unlock", {}, "lock"),
            ("unlock", {"lock": 1, "path": self.path}, "lock"),
            ("unlock", {"lock": 1, "handle": 1}, "handle"),
            ("unlock", {"lock": "1"}, "lock"),
            ("cancel", {}, "id"),
            ("cancel", {"id": None}, "id"),
            ("cancel", {"id": 1.5}, "id"),
            ("list", {"limit": 0}, "limit"),
            ("list", {"limit": 4001}, "limit"),
            ("list", {"state": "lost"}, "state"),
            ("list", {"after": "nonsense"}, "after"),
            ("list", {"path": "relative"}, "path"),
            ("hello", {"protocol": "1"}, "protocol"),
        ):
            e = self.client().refuse(method, params)
            self.assertEqual((e.code, e.data.get("member")), (BAD_PARAMS, member), (method, params, e.message))

    def test_doubled_params_are_refused(self):
        e = self.refused('{"jsonrpc":"2.0","id":1,"method":"stop","params":{"force":false,"force":true}}\n', BAD_PARAMS, 1)
        self.assertEqual(e["data"]["member"], "force")
        self.refused('{"jsonrpc":"2.0","id":1,"method":"ping","params":null}\n', BAD_PARAMS, 1)

    def test_integers_written_as_fractions_without_one_are_integers(self):
        self.assertEqual(self.c.lock(self.path, "LOCK_EX", handle=1.0)["mode"], "LOCK_EX")

    def test_an_id_of_a_waiting_request_is_not_free(self):
        other = self.client()
        other.lock(self.path, "LOCK_EX")
        params = {"path": self.path, "flags": ["LOCK_EX"]}
        self.c.send("lock", params, id="x")
        self.assertEqual(self.c.call("cancel", {"id": "y"})["cancelled"], False)
        self.c.send("lock", {**params, "handle": 1}, id="x")
        self.assertEqual(self.c.line()["error"]["code"], NOT_A_REQUEST)
        self.c.send("ping", id="x")  # only a lock waits; others may share its id
        self.assertTrue(self.c.take())

    def test_replies_come_as_they_are_decided(self):
        holder = self.client()
        lock = holder.lock(self.path, "LOCK_EX")["lock"]
        first = self.c.start_lock(self.path, "LOCK_EX")
        second = self.c.start_lock(self.daemon.file("other"), "LOCK_EX")
        self.c.reply(second)
        self.assertNotIn(first, self.c.replies)
        holder.unlock(lock)
        self.c.reply(first)


class Hello(DaemonTest):
    def test_hello_tells_who_serves(self):
        c = self.client()
        r = c.call("hello", {"protocol": 1, "client": "a test"})
        self.assertEqual((r["server"], r["protocol"]), ("portalockd", 1))
        self.assertEqual("descriptors" in r["features"], not WINDOWS)
        self.assertEqual(r["limits"]["reclaim_window_ms"], 5000)
        self.assertNotEqual(r["session"], self.client().call("hello", {"protocol": 1})["session"])

    def test_hello_comes_first_or_not_at_all(self):
        c = self.client()
        c.ping()
        self.assertEqual(c.refuse("hello", {"protocol": 1}).code, NOT_A_REQUEST)

    def test_another_protocol_is_refused_with_those_supported(self):
        c = self.client()
        e = c.refuse("hello", {"protocol": 2})
        self.assertEqual((e.code, e.data["member"], e.data["supported"]), (BAD_PARAMS, "protocol", [1]))

    def test_the_name_given_is_shown_in_lists(self):
        c = self.client()
        c.call("hello", {"protocol": 1, "client": "build 7"})
        c.lock(self.path, "LOCK_EX")
        (holder,) = self.rows(c)[self.path]["holders"]
        self.assertEqual(holder["client"], "build 7")
        self.assertEqual(holder["pid"], self.daemon.client_pid)
        self.assertEqual(self.client().refuse("hello", {"protocol": 1, "client": "x" * 64}).data["member"], "client")


@needs("descriptors that travel")
class Descriptors(DaemonTest):
    def test_a_descriptor_is_locked_itself(self):
        c = self.client()
        fd = self.open()
        r = c.lock(None, "LOCK_EX", fd)
        self.assertEqual(r["path"], self.path)
        c.close()
        other = self.client()
        other.busy(self.path, "LOCK_EX|LOCK_NB")  # our descriptor holds it still
        self.close(fd)
        other.lock(self.path, "LOCK_EX", timeout_ms=20000)

    def test_descriptors_queue_in_their_order(self):
        c = self.client()
        names = [f"f{i}" for i in range(10)]
        for name in names:
            c.raw(" ", self.open(name))  # a blank line in the making
        c.raw("\n")
        for name in names:
            id = c.send("lock", {"fd": True, "flags": ["LOCK_EX"]})
            self.assertEqual(c.reply(id)["path"], self.daemon.file(name))

    def test_fd_true_without_a_descriptor(self):
        c = self.client()
        e = c.refuse("lock", {"fd": True, "flags": ["LOCK_EX"]})
        self.assertEqual((e.code, e.data["member"]), (BAD_PARAMS, "fd"))

    def test_a_refused_request_takes_its_descriptor_along(self):
        c = self.client()
        c.raw('{"jsonrpc":"2.0","id":"bad","method":"lock","params":{"fd":true,"flags":[]}}\n', self.open("a"))
        self.assertEqual(c.refusal("bad").code, BAD_PARAMS)
        r = c.lock(None, "LOCK_EX", self.open("b"))
        self.assertEqual(r["path"], self.daemon.file("b"))

    def test_64_unclaimed_are_kept_and_one_more_ends_the_session(self):
        fd = self.open()
        c = self.client()
        for _ in range(64):
            c.raw(" ", fd)
        c.raw("\n")
        c.ping()
        c.raw(" ", fd)
        while c.take():
            pass
        self.client().ping()

    def test_more_than_one_with_a_message_is_against_the_rules(self):
        """Nothing promises which of them arrive; the daemon must only stay whole."""
        c = self.client()
        a, b = self.open("a"), self.open("b")
        try:
            c.raw('{"jsonrpc":"2.0","id":1,"method":"ping"}\n', a, b)
            c.ping()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            pass
        self.client().ping()

    def test_what_flock_does_not_take_is_an_os_error(self):
        c = self.client()
        a, b = socket.socketpair()
        with a, b:
            e = c.refuse("lock", {"fd": True, "flags": ["LOCK_EX"]}, a.fileno())
            self.assertEqual(e.code, 7)
            self.assertTrue(e.data["errno"])
        path_only = os.open(self.daemon.folder, os.O_PATH)
        self.fds.append(path_only)
        self.assertEqual(c.refuse("lock", {"fd": True, "flags": ["LOCK_EX"]}, path_only).code, 7)
        r, w = os.pipe()
        self.fds += [r, w]
        self.assertEqual(c.lock(None, "LOCK_EX", r)["mode"], "LOCK_EX")  # a pipe has an inode, and flock takes it

    def test_no_descriptor_is_lost(self):
        c = self.client()
        fds = f"/proc/{self.daemon.process.pid}/fd"
        c.ping()
        before = len(os.listdir(fds))
        for i in range(50):
            r = c.lock(None, "LOCK_EX", self.open())
            c.unlock(r["lock"])
            c.lock(self.path, "LOCK_EX")
            c.call("unlock", {"path": self.path})
            c.refuse("lock", {"fd": True, "flags": ["LOCK_EX"]}, fd=None)
        deadline = time.monotonic() + PATIENCE  # the path's stays open for two seconds
        while len(os.listdir(fds)) != before:
            self.assertLess(time.monotonic(), deadline)
            c.ping()

    def test_a_name_that_is_not_utf8_is_shown_escaped(self):
        c = self.client()
        name = os.fsencode(self.daemon.folder) + b"/n\xffme"
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        self.fds.append(fd)
        self.assertEqual(c.lock(None, "LOCK_EX", fd)["path"], self.daemon.file("n\\xFFme"))


class HalfCloseAndBackPressure(DaemonTest):
    @needs("half-closed pipes")
    def test_requests_before_a_half_close_are_carried_out_and_answered(self):
        c = self.client()
        fd = self.open()
        id = c.send("lock", {"fd": True, "flags": ["LOCK_EX"]}, fd)
        c.socket.shutdown(socket.SHUT_WR)
        c.reply(id)
        self.assertFalse(self.client().refuse("lock", {"path": self.path, "flags": ["LOCK_EX", "LOCK_NB"]}).code != 1)
        c.close()
        self.close(fd)
        self.client().lock(self.path, "LOCK_EX", timeout_ms=20000)

    @needs("half-closed pipes")
    def test_a_half_closed_session_still_waits_for_its_lock(self):
        holder = self.client()
        lock = holder.lock(self.path, "LOCK_EX")["lock"]
        c = self.client()
        id = c.start_lock(self.path, "LOCK_EX")
        c.socket.shutdown(socket.SHUT_WR)
        self.await_waiting(holder, self.path, 1)
        holder.unlock(lock)
        c.reply(id)
        self.assertIsNone(self.peek(c))

    def peek(self, c):
        c.socket.setblocking(False)
        try:
            return c.socket.recv(1)
        except BlockingIOError:
            return None
        finally:
            c.socket.setblocking(True)

    def test_one_who_never_reads_is_not_dropped_and_hinders_nobody(self):
        slow = self.client(rcvbuf=4096)
        slow.socket.setblocking(False)
        request = b'{"jsonrpc":"2.0","id":"%s","method":"stats"}\n' % (b"x" * 100)
        asked, data = 0, b""
        deadline = time.monotonic() + 20
        # Until the daemon stops reading us: a send that finds no room, and still none after others were served.
        stuck = 0
        while stuck < 50:
            self.assertLess(time.monotonic(), deadline, "the daemon reads on without end")
            if not data:
                data, asked = request * 100, asked + 100
            try:
                data = data[slow.socket.send(data):]
                stuck = 0
            except BlockingIOError:
                stuck += 1
                began = time.monotonic()
                self.client().ping()
                self.assertLess(time.monotonic() - began, 1.0)
        if not WINDOWS:  # Wine's processes have other numbers
            with open(f"/proc/{self.daemon.process.pid}/statm") as f:
                self.assertLess(int(f.read().split()[1]) * 4096, 200 << 20)
        # Now it reads after all: every answer is there.
        slow.socket.setblocking(True)
        answered = 0
        while answered < asked - 100:
            m = slow.line()
            self.assertIn("result", m)
            answered += 1


if __name__ == "__main__":
    unittest.main()
