"""Files that are locked by path again and again stay open in between: what that must never change."""

import os
import resource
import time
import unittest

from wire import PATIENCE, Daemon, DaemonTest, is_free

EX, SH = "LOCK_EX", "LOCK_SH"
KEPT_MAX = 256


class Kept(DaemonTest):
    def open_files(self):
        """Those of our folder that the daemon has open."""
        folder = f"/proc/{self.daemon.process.pid}/fd"
        ours = os.path.realpath(self.daemon.folder)
        targets = []
        for fd in os.listdir(folder):
            try:
                targets.append(os.readlink(f"{folder}/{fd}"))
            except FileNotFoundError:
                pass
        return [t for t in targets if t.startswith(ours) and t != f"{ours}/log" and not t.startswith(f"{ours}/socket")]

    def use(self, client, path=None, **more):
        client.lock(path or self.path, EX, **more)
        client.call("unlock", {"path": path or self.path})

    def kept(self, client, path=None):
        for _ in range(3):
            self.use(client, path)
        self.assertIn(os.path.realpath(path or self.path), self.open_files())

    def replace(self, path=None):
        """Another file of that name."""
        new = self.daemon.file("new")
        with open(new, "w", encoding="ascii"):
            pass
        os.rename(new, path or self.path)

    def await_closed(self):
        deadline = time.monotonic() + PATIENCE
        while self.open_files():
            self.assertLess(time.monotonic(), deadline, self.open_files())


class WhatIsKept(Kept):
    def test_what_was_locked_once_is_closed_at_once(self):
        self.use(self.client())
        self.assertEqual(self.open_files(), [])

    def test_what_was_locked_by_descriptor_before_is_not_kept_for_that(self):
        c = self.client()
        for _ in range(3):
            c.unlock(c.lock(None, EX, self.open())["lock"])
        self.use(c)
        self.assertEqual(self.open_files(), [])

    def test_what_is_locked_again_and_again_stays_open_for_two_seconds(self):
        c = self.client()
        began = time.monotonic()
        self.kept(c)
        self.await_closed()
        self.assertGreater(time.monotonic() - began, 1.9)
        self.kept(c)  # and once more

    def test_a_folder_and_a_file_with_two_names(self):
        c = self.client()
        self.kept(c, self.daemon.folder + "/.")
        os.link(self.daemon.open("one") and self.daemon.file("one"), self.daemon.file("two"))
        for _ in range(3):
            self.use(c, self.daemon.file("one"))
            self.use(c, self.daemon.file("two"))
        files = self.open_files()
        self.assertEqual(len([f for f in files if f.endswith(("one", "two"))]), 1, files)

    def test_no_more_than_256_are_kept_and_the_oldest_goes_first(self):
        c = self.client()
        paths = [self.daemon.file(f"f{i}") for i in range(KEPT_MAX + 1)]
        for path in paths:
            for _ in range(3):
                self.use(c, path)
        files = self.open_files()
        self.assertLessEqual(len(files), KEPT_MAX)
        self.assertIn(os.path.realpath(paths[-1]), files)
        self.assertNotIn(os.path.realpath(paths[0]), files)

    def test_they_do_not_count_as_open_for_a_lock(self):
        c = self.client()
        self.kept(c)
        self.assertEqual(c.call("stats")["gauges"]["descriptors"], 0)


class TheFileIsTheOneOfThatName(Kept):
    def test_a_replaced_file_is_not_locked(self):
        c = self.client()
        self.kept(c)
        old = self.open()
        self.replace()
        lock = c.lock(self.path, EX)
        self.assertFalse(is_free(self.path))
        self.assertTrue(is_free(f"/proc/self/fd/{old}"))
        c.unlock(lock["lock"])
        self.kept(c)

    def test_a_removed_file_is_made_anew_or_not(self):
        c = self.client()
        self.kept(c)
        os.unlink(self.path)
        self.assertEqual(c.refuse("lock", {"path": self.path, "flags": [EX], "create": False}).data["errno"], "ENOENT")
        self.use(c)
        self.assertTrue(os.path.exists(self.path))

    def test_who_holds_the_old_file_does_not_refuse_the_new_one(self):
        c = self.client()
        self.kept(c)
        self.outsider()
        self.replace()
        self.assertEqual(c.call("lock", {"path": self.path, "flags": [EX, "LOCK_NB"]})["path"], self.path)
        self.assertFalse(is_free(self.path))

    def test_who_holds_the_old_file_lets_nobody_wait_for_the_new_one(self):
        c, watch = self.client(), self.client()
        watch.call("watch", {"path": self.path})
        self.kept(c)
        self.outsider()
        self.replace()
        c.lock(self.path, EX)
        self.assertFalse(is_free(self.path))
        watch.ping()
        events = [n["params"]["event"] for n in watch.notifications if n["method"] == "event"]
        self.assertNotIn("waiting", events)
        self.assertEqual(events.count("granted"), 4)

    def test_a_link_that_leads_elsewhere_now(self):
        c = self.client()
        self.open("one"), self.open("two")
        os.symlink("one", self.path)
        for _ in range(3):
            self.use(c)
        os.unlink(self.path)
        os.symlink("two", self.path)
        c.lock(self.path, SH)
        self.assertTrue(is_free(self.daemon.file("one")))
        self.assertFalse(is_free(self.daemon.file("two")))

    def test_an_outsider_on_the_same_file_excludes_us(self):
        c = self.client()
        self.kept(c)
        fd = self.outsider()
        self.assertEqual(c.refuse("lock", {"path": self.path, "flags": [EX, "LOCK_NB"]}).data["name"], "LOCK_FAILED")
        waits = c.start_lock(self.path, EX)
        c.ping()
        self.assertEqual(c.call("stats")["gauges"]["waiting"], 1)
        self.close(fd)
        c.reply(waits)
        self.assertFalse(is_free(self.path))


class NotAtAll(Kept):
    options = ("--keep-open", "0")

    def test_on_demand_nothing_is_kept(self):
        c = self.client()
        for _ in range(5):
            self.use(c)
        self.assertEqual(self.open_files(), [])


class FewDescriptors(Kept):
    LIMIT = 400

    def setUp(self):
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.LIMIT, self.LIMIT))
        self.daemon = Daemon(preexec_fn=limit)
        self.assertTrue(self.daemon.ready, self.daemon.log())
        self.fds, self.path = [], self.daemon.file()

    def test_what_is_kept_is_closed_when_descriptors_are_needed(self):
        c = self.client()
        for i in range(150):
            for _ in range(3):
                self.use(c, self.daemon.file(f"f{i}"))
        self.assertGreater(len(self.open_files()), 100)
        others = [self.client() for _ in range(100)]
        for other in others:
            other.ping()
        self.assertEqual(self.open_files(), [])
        self.use(c)


if __name__ == "__main__":
    unittest.main()
