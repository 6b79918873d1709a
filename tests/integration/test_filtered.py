"""A daemon under a system call filter, as in a container: descriptions are told apart all the same, and where they cannot be, it says so."""

import fcntl
import os
import subprocess
import unittest

import seccomp
from wire import Daemon, is_free

EX, SH = "LOCK_EX", "LOCK_SH"
F_DUPFD_QUERY = 1027
NO_KCMP = (seccomp.KCMP, None)
NO_QUERY = (seccomp.FCNTL, F_DUPFD_QUERY)


def can_query():
    with open(os.devnull) as f:
        try:
            return fcntl.fcntl(f.fileno(), F_DUPFD_QUERY, f.fileno()) == 1
        except OSError:
            return False


class Filtered(unittest.TestCase):
    def start(self, *calls):
        if seccomp.KCMP is None:
            self.skipTest("system call numbers of this machine are not known here")
        try:
            self.daemon = Daemon(preexec_fn=lambda: seccomp.forbid(*calls))
        except subprocess.SubprocessError:
            self.skipTest("no seccomp filters here")
        self.addCleanup(self.daemon.stop)
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.fds = []
        self.addCleanup(lambda: [os.close(fd) for fd in self.fds])

    def open(self):
        self.fds.append(self.daemon.open())
        return self.fds[-1]

    def test_without_kcmp_each_description_is_one_owner(self):
        if not can_query():
            self.skipTest("this kernel has no F_DUPFD_QUERY (6.10)")
        self.start(NO_KCMP)
        self.assertNotIn("descriptions_unknown", self.daemon.log())
        path = self.daemon.file()
        with self.daemon.connect() as a, self.daemon.connect() as b:
            fds = [self.open() for _ in range(12)]
            first = [a.lock(path, SH, fd) for fd in fds]
            for fd in fds[3:5]:  # numbers that change the order
                again = os.dup(fd)
                self.fds.append(again)
                self.assertEqual(a.lock(path, SH, again)["token"], first[fds.index(fd)]["token"])
            second = [b.lock(path, SH, fd) for fd in reversed(fds)][::-1]
            self.assertEqual([x["token"] for x in first], [x["token"] for x in second])
            self.assertEqual(a.call("stats")["gauges"]["descriptors"], 12)
            for x in second:
                b.unlock(x["lock"])
            self.assertFalse(is_free(path))  # all are still held by the first
            for x in first:
                self.assertTrue(a.unlock(x["lock"]))
            self.assertTrue(is_free(path))
            held = a.lock(path, EX, fds[0])
            self.assertEqual(b.lock(path, EX, fds[0])["token"], held["token"])
            b.busy(path, "LOCK_EX|LOCK_NB", fds[1])

    def test_with_neither_it_says_so_and_serves(self):
        self.start(NO_KCMP, NO_QUERY)
        self.assertEqual(self.daemon.log().count("event=descriptions_unknown"), 1)
        path = self.daemon.file()
        with self.daemon.connect() as a, self.daemon.connect() as b:
            held = a.lock(path, EX, self.open())
            b.busy(path, "LOCK_EX|LOCK_NB", self.open())
            self.assertTrue(a.unlock(held["lock"]))
            b.lock(path, EX, self.open())

    def test_without_openat2_paths_are_locked_and_files_made_as_ever(self):
        self.start((seccomp.OPENAT2, None))
        there, missing = self.daemon.file(), self.daemon.file("missing")
        self.open()
        with self.daemon.connect() as a, self.daemon.connect() as b:
            for path in (there, missing):
                for _ in range(3):
                    a.lock(path, EX)
                    self.assertFalse(is_free(path))
                    b.busy(path, "LOCK_EX|LOCK_NB")
                    self.assertTrue(a.call("unlock", {"path": path})["released"])
            absent = {"path": self.daemon.file("absent"), "flags": [EX], "create": False}
            self.assertEqual(a.refuse("lock", absent).data["errno"], "ENOENT")
            absent["path"] = self.daemon.file("no/folder")
            self.assertEqual(a.refuse("lock", absent).data["errno"], "ENOENT")


if __name__ == "__main__":
    unittest.main()
