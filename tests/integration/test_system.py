"""A daemon for all users: what of whom is shown to whom, opened, and broken. With real users."""

import fcntl
import os
import unittest

from users import ALICE, BOB, DAEMON, NOBODY, UsersTest

EX, SH, EX_NB = "LOCK_EX", "LOCK_SH", "LOCK_EX|LOCK_NB"
DENIED, DEADLOCK, NOT_FOUND = 6, 3, 10


class Shown(UsersTest):
    """One file with a name in a folder that only Alice can look into, and another name that is Bob's."""

    def setUp(self):
        super().setUp()
        hers = self.folder(ALICE, "alices-folder", 0o700)
        his = self.folder(BOB, "bobs-folder", 0o700)
        self.hers, self.his = os.path.join(hers, "secret"), os.path.join(his, "link")
        os.close(os.open(self.hers, os.O_CREAT))
        os.link(self.hers, self.his)
        self.own = os.path.join(his, "own")
        self.alice, self.bob, self.root = self.user(ALICE), self.user(BOB), self.user(0)
        self.alice.call("hello", {"protocol": 1, "client": "alices-program"})
        self.secrets = ["alices-folder", "alices-label", "alices-program"]
        status = os.stat(self.hers)
        self.inode, self.device = str(status.st_ino), str(status.st_dev)

    def lock(self, user, path, flags, **more):
        fd = self.open(path)
        return user.lock(more.pop("label", None), flags, fd, **more)

    def start_lock(self, user, path, flags, **more):
        return user.start_lock(more.pop("label", None), flags, self.open(path), **more)

    def alice_locks(self, flags=EX):
        """And her path is known to the daemon: she is shown it herself."""
        lock = self.lock(self.alice, self.hers, flags, label="/alices-label")
        self.assertEqual(self.alice.call("list", {"outside": False})["locks"][0]["path"], self.hers)
        self.secrets += [str(lock["lock"]), str(lock["token"])]
        return lock

    def await_waiting(self, count):
        while self.root.call("stats")["gauges"]["waiting"] != count:
            pass

    def nothing_told(self, user, knows_file=False):
        """No byte that this user ever received is about more than he may know. (The device is that of his own files.)"""
        heard = user.heard()
        for secret in self.secrets:
            self.assertNotIn(secret, heard)
        if not knows_file:
            self.assertNotIn(f'"{self.inode}"', heard)

    def strange_holder(self, row, pid):
        """All that is shown of a lock of Alice's to others."""
        self.assertGreaterEqual(row.pop("held_ms"), 0)
        self.assertEqual(
            row,
            {"lock": None, "session": None, "pid": pid, "uid": ALICE, "command": "python3", "mode": "LOCK_EX", "token": None, "handle": None},
        )

    # ---- list ----

    def test_a_list_shows_strange_locks_without_file_names_and_ids(self):
        held = self.alice_locks()
        (file,) = self.bob.call("list")["locks"]
        self.assertEqual((file["path"], file["device"], file["inode"]), (None, None, None))
        self.assertEqual((file["waiters"], file["outside"]), ([], []))
        self.strange_holder(file["holders"][0], self.alice.pid)
        self.nothing_told(self.bob)
        (file,) = self.root.call("list")["locks"]
        self.assertEqual((file["path"], file["device"], file["inode"]), (self.hers, self.device, self.inode))
        (row,) = file["holders"]
        self.assertEqual((row["lock"], row["label"], row["client"]), (held["lock"], "/alices-label", "alices-program"))
        (row,) = self.user(ALICE).call("list")["locks"][0]["holders"]  # another session of hers
        self.assertEqual((row["lock"], row["label"], row["client"]), (held["lock"], "/alices-label", "alices-program"))

    def test_the_daemons_own_user_sees_no_more_than_others(self):
        self.alice_locks()
        service = self.user(DAEMON)
        self.strange_holder(service.call("list")["locks"][0]["holders"][0], self.alice.pid)
        self.nothing_told(service)

    def test_who_waits_for_a_file_knows_it_by_his_own_name(self):
        self.alice_locks()
        id = self.start_lock(self.bob, self.his, EX, label="/bobs-label")
        self.await_waiting(1)
        (file,) = self.bob.call("list")["locks"]
        self.assertEqual((file["path"], file["device"], file["inode"]), (self.his, self.device, self.inode))
        self.strange_holder(file["holders"][0], self.alice.pid)
        self.assertEqual((file["waiters"][0]["label"], file["waiters"][0]["uid"]), ("/bobs-label", BOB))
        (row,) = self.alice.call("list")["locks"][0]["waiters"]
        self.assertEqual((row["session"], row["pid"], row["uid"], row["position"]), (None, self.bob.pid, BOB, 1))
        self.assertNotIn("label", row)
        self.bob.call("cancel", {"id": id})
        (file,) = self.bob.call("list")["locks"]  # and no longer
        self.assertEqual((file["path"], file["inode"]), (None, None))
        self.nothing_told(self.bob, knows_file=True)
        self.assertNotIn("bobs-", self.alice.heard())

    def test_a_path_in_a_list_means_ones_own_files_by_name(self):
        self.alice_locks()
        self.lock(self.bob, self.own, SH, label="/bobs-label")
        listed = lambda user, path: [f["path"] for f in user.call("list", {"path": path})["locks"]]
        for name in (self.hers, "/alices-label", self.his, "/nothing"):
            self.assertEqual(listed(self.bob, name), [])
        for name in (self.own, "/bobs-label"):
            self.assertEqual(listed(self.bob, name), [self.own])
        for name in (self.hers, "/alices-label"):
            self.assertEqual(listed(self.alice, name), [self.hers])
            self.assertEqual(listed(self.root, name), [self.hers])
        # Whoever looked into the file system would find them by these.
        other = os.path.join(self.base, "other-name")
        os.symlink(self.own, other)
        for user in (self.bob, self.root):
            self.assertEqual(listed(user, other), [])
        self.nothing_told(self.bob)

    def test_a_session_whose_id_is_not_shown_cannot_be_asked_for(self):
        session = self.user(ALICE)
        id = session.call("hello", {"protocol": 1})["session"]
        session.lock(None, EX, self.open(self.hers))
        self.assertEqual(self.bob.call("list", {"session": id}), {"locks": []})
        self.assertEqual(len(self.alice.call("list", {"session": id})["locks"]), 1)
        self.assertEqual(len(self.bob.call("list", {"pid": session.pid})["locks"]), 1)
        self.bob.call("watch", {"session": id})
        self.start_lock(session, self.own, EX)
        session.ping()
        self.assertTrue(self.bob.is_silent())
        self.assertEqual(self.bob.notifications, [])

    def test_outsiders_are_shown_to_those_who_know_the_file(self):
        fcntl.flock(self.open(self.hers), fcntl.LOCK_EX)
        self.start_lock(self.alice, self.hers, EX)
        self.await_waiting(1)
        (row,) = self.alice.call("list")["locks"][0]["outside"]
        self.assertEqual(row["pid"], os.getpid())
        self.assertEqual(self.bob.call("list")["locks"][0]["outside"], [])
        self.nothing_told(self.bob)

    # ---- refusals and notices ----

    def test_holders_in_refusals_and_notices(self):
        self.alice_locks()
        busy = self.bob.busy(None, EX_NB, self.open(self.his))
        self.strange_holder(busy.data["holders"][0], self.alice.pid)
        self.assertNotIn(busy.message, self.secrets)
        late = self.bob.refusal(self.start_lock(self.bob, self.his, EX, timeout_ms=30, notify=True))
        self.assertEqual(late.code, 2)
        self.strange_holder(late.data["holders"][0], self.alice.pid)
        self.strange_holder(self.bob.notification("waiting")["holders"][0], self.alice.pid)
        self.nothing_told(self.bob, knows_file=True)
        self.assertNotIn(f'"{self.inode}"', self.bob.heard())

    def test_a_grant_is_told_by_the_name_of_ones_own_description(self):
        self.alice_locks(SH)
        self.assertEqual(self.lock(self.bob, self.his, SH)["path"], self.his)
        self.assertEqual(self.bob.call("list")["locks"][0]["path"], self.his)
        self.assertEqual(self.alice.call("list")["locks"][0]["path"], self.hers)
        self.nothing_told(self.bob, knows_file=True)
        self.assertNotIn("bobs-", self.alice.heard())

    def test_a_cycle_names_files_as_the_refused_one_knows_them(self):
        hers, his = self.open(self.hers), self.open(self.his)
        self.alice.lock("/alices-label", SH, hers)
        self.alice.call("list")  # so that her name of it is known
        self.bob.lock(None, SH, his)
        self.alice.start_lock("/alices-label", EX, hers)
        self.await_waiting(1)
        e = self.bob.refusal(self.bob.start_lock(None, EX, his))
        self.assertEqual(e.code, DEADLOCK)
        self.assertEqual(
            e.data["cycle"],
            [
                {"pid": self.bob.pid, "uid": BOB, "command": "python3", "path": self.his, "mode": "LOCK_EX"},
                {"pid": self.alice.pid, "uid": ALICE, "command": "python3", "path": self.his, "mode": "LOCK_EX"},
            ],
        )
        self.nothing_told(self.bob, knows_file=True)

    # ---- watch ----

    def test_events_of_others_name_no_file_and_no_ids(self):
        self.bob.call("watch")
        self.root.call("watch")
        second = self.user(ALICE)
        session = second.call("hello", {"protocol": 1, "client": "alices-program"})["session"]
        held = self.alice_locks()
        self.secrets.append(str(session))
        self.assertEqual(second.refusal(self.start_lock(second, self.hers, EX, timeout_ms=20, label="/alices-label")).code, 2)
        id = self.start_lock(second, self.hers, EX, label="/alices-label")
        second.call("cancel", {"id": id})
        self.alice.unlock(held["lock"])
        self.assertEqual(self.user(0).call("ping"), {})
        wanted = ["granted", "waiting", "timed_out", "waiting", "cancelled", "released"]
        told = [self.bob.notification("event") for _ in wanted]
        for event in told:
            self.assertGreater(event.pop("time_ms"), 0)
        pids = [self.alice.pid] + 4 * [second.pid] + [self.alice.pid]
        self.assertEqual(
            told,
            [
                {"event": e, "session": None, "pid": pid, "uid": ALICE, "command": "python3", "path": None, "mode": "LOCK_EX"}
                for e, pid in zip(wanted, pids)
            ],
        )
        seen = [self.root.notification("event") for _ in wanted]
        self.assertEqual([(e["event"], e["path"], e["client"]) for e in seen], [(e, self.hers, "alices-program") for e in wanted])
        self.assertEqual(seen[0]["lock"], held["lock"])
        self.nothing_told(self.bob)

    def test_events_of_a_lost_lock_and_of_a_session_that_ends(self):
        self.bob.call("watch")
        held = self.alice_locks()
        self.root.call("break", {"lock": held["lock"]})
        held = self.lock(self.alice, self.hers, EX, label="/alices-label")
        self.secrets.append(str(held["token"]))
        self.alice.close()
        told = [self.bob.notification("event") for _ in range(4)]
        self.assertEqual([(e["event"], e["path"]) for e in told], [("granted", None), ("lost", None), ("granted", None), ("released", None)])
        self.nothing_told(self.bob)

    def test_a_lost_lock_is_told_by_the_name_of_ones_own_description(self):
        watcher = self.user(ALICE)
        watcher.call("watch")
        held = self.alice_locks()
        self.root.call("break", {"lock": held["lock"]})
        told = [watcher.notification("event") for _ in range(2)]
        self.assertEqual([(e["event"], e["path"]) for e in told], [("granted", self.hers), ("lost", self.hers)])

    def test_a_lost_lock_is_told_by_the_name_of_what_one_has_of_the_file_still(self):
        own = self.lock(self.bob, self.his, SH)
        self.bob.call("watch")
        other = self.lock(self.user(BOB), self.his, SH)
        self.root.call("break", {"lock": other["lock"]})
        told = [self.bob.notification("event") for _ in range(2)]
        self.assertEqual([(e["event"], e["path"]) for e in told], [("granted", self.his), ("lost", self.his)])
        self.assertTrue(self.bob.unlock(own["lock"]))

    def test_a_path_that_is_watched_is_a_name_of_ones_own(self):
        link = os.path.join(self.base, "link-to-bobs")
        os.symlink(self.own, link)
        for path in (self.hers, "/alices-label", link):
            self.bob.call("watch", {"path": path})
        self.alice_locks()
        self.lock(self.bob, self.own, EX)
        self.assertTrue(self.bob.is_silent())
        self.assertEqual(self.bob.notifications, [])
        self.bob.call("watch", {"path": self.his})
        self.start_lock(self.bob, self.his, EX)
        event = self.bob.notification("event")
        self.assertEqual((event["event"], event["path"]), ("waiting", self.his))
        self.nothing_told(self.bob, knows_file=True)

    def test_events_on_a_file_that_one_waits_for(self):
        held = self.alice_locks()
        self.start_lock(self.bob, self.his, EX)
        self.await_waiting(1)
        self.bob.call("watch", {"path": self.his})
        self.alice.unlock(held["lock"])
        events = [self.bob.notification("event") for _ in range(2)]
        self.assertEqual([(e["event"], e["uid"], e["path"]) for e in events], [("released", ALICE, self.his), ("granted", BOB, self.his)])
        self.assertIsNone(events[0]["session"])
        self.nothing_told(self.bob, knows_file=True)

    # ---- the rest ----

    def test_stats_are_numbers_for_everybody(self):
        self.alice_locks()

        def leaves(x):
            for v in x.values() if isinstance(x, dict) else x:
                yield from leaves(v) if isinstance(v, (dict, list)) else [v]

        stats = self.bob.call("stats")
        self.assertEqual(stats["gauges"]["locks"], 1)
        self.assertTrue(all(isinstance(v, int) for v in leaves(stats)))
        self.nothing_told(self.bob)

    def test_nobody_is_not_even_itself(self):
        a, b = self.user(NOBODY), self.user(NOBODY)
        held = a.lock("/alices-label", EX, self.open(self.hers))
        (file,) = b.call("list")["locks"]
        self.assertEqual((file["path"], file["inode"], file["holders"][0]["lock"]), (None, None, None))
        self.assertEqual(b.refuse("break", {"lock": held["lock"]}).code, DENIED)
        self.assertEqual(b.refuse("stop").code, DENIED)
        self.nothing_told(b)
        (file,) = a.call("list")["locks"]  # but a session knows what it has
        self.assertEqual((file["path"], file["inode"], file["holders"][0]["lock"]), (self.hers, self.inode, held["lock"]))
        self.assertEqual(a.call("break", {"lock": held["lock"]}), {})


class Allowed(UsersTest):
    """What may be done."""

    def setUp(self):
        super().setUp()
        self.path = os.path.join(self.folder(ALICE, "shared", 0o777), "file")
        self.alice, self.bob, self.root = self.user(ALICE), self.user(BOB), self.user(0)

    def test_only_the_owner_and_root_break_a_lock(self):
        held = self.alice.lock("/label", EX, self.open(self.path))
        self.assertEqual(self.bob.refuse("break", {"lock": held["lock"]}).code, DENIED)
        self.assertEqual(self.user(DAEMON).refuse("break", {"lock": held["lock"]}).code, DENIED)
        self.assertEqual(self.bob.refuse("break", {"lock": 1}).code, NOT_FOUND)
        self.assertTrue(self.alice.is_silent())
        second = self.user(ALICE)
        self.assertEqual(second.call("break", {"lock": held["lock"]}), {})
        lost = self.alice.notification("lost")
        self.assertEqual(lost, {"lock": held["lock"], "path": "/label", "by": f"break by python3[{second.pid}] (uid {ALICE})"})
        held = self.alice.lock(None, EX, self.open(self.path))
        self.assertEqual(self.root.call("break", {"lock": held["lock"]}), {})
        self.assertEqual(self.alice.notification("lost")["by"], f"break by python3[{self.root.pid}] (uid 0)")

    def test_a_lock_is_unlocked_by_its_session_alone(self):
        held = self.alice.lock("/label", EX, self.open(self.path))
        for user in (self.bob, self.root, self.user(ALICE)):
            self.assertEqual(user.call("unlock", {"lock": held["lock"]}), {"released": False})
            self.assertEqual(user.call("unlock", {"path": "/label"}), {"released": False})
        self.assertEqual(self.alice.call("unlock", {"path": "/label"}), {"released": True})

    def test_only_root_and_the_daemons_user_stop_it(self):
        for uid in (ALICE, BOB):
            self.assertEqual(self.user(uid).refuse("stop", {"force": True}).code, DENIED)
        self.assertEqual(self.user(DAEMON).call("stop"), {})
        self.assertEqual(self.daemon.wait(), 0)

    def test_no_path_is_opened_for_another_user(self):
        open_to_all = os.path.join(self.base, "open-to-all")
        self.folder(DAEMON, "open-to-all", 0o777)
        for user in (self.alice, self.root):
            path = os.path.join(open_to_all, "made")
            e = user.refusal(user.start_lock(path, EX))
            self.assertEqual((e.code, e.data["name"]), (DENIED, "DENIED"))
            self.assertIn("descriptor", e.message)
            self.assertFalse(os.path.exists(path))
            e = user.refusal(user.start_lock("/no/such/folder/file", EX))  # nor is it told whether it is there
            self.assertEqual(e.code, DENIED)
        service = self.user(DAEMON)
        path = os.path.join(open_to_all, "its-own")
        self.assertEqual(service.lock(path, EX)["path"], path)
        self.assertEqual(os.stat(path).st_uid, DAEMON)
        self.assertEqual(list(f["path"] for f in service.call("list", {"path": os.path.join(open_to_all, ".", "its-own")})["locks"]), [path])

    def test_an_unlock_by_path_goes_by_the_label(self):
        link = os.path.join(self.base, "link")
        os.symlink(self.path, link)
        self.alice.lock(self.path, EX, self.open(self.path))
        self.assertEqual(self.alice.call("unlock", {"path": link}), {"released": False})
        self.assertEqual(self.alice.call("unlock", {"path": self.path}), {"released": True})

    def test_users_keep_each_other_out(self):
        held = self.alice.lock(None, EX, self.open(self.path))
        id = self.bob.start_lock(None, EX, self.open(self.path))
        self.assertTrue(self.alice.unlock(held["lock"]))
        self.assertGreater(self.bob.reply(id)["token"], held["token"])

    def test_the_socket_is_for_everybody_and_its_folder_the_daemons(self):
        self.assertEqual(os.stat(self.daemon.path).st_mode & 0o777, 0o666)
        self.assertEqual(os.stat(self.daemon.path).st_uid, DAEMON)


class Folder(UsersTest):
    """Where a daemon for all users listens."""

    def setUp(self):
        pass  # each case has a folder of its own

    def refused(self, owner, mode, symlink=False):
        self.set_base()
        run = self.folder(owner, "run", mode)
        if symlink:
            os.rename(run, run + "-real")
            os.symlink(run + "-real", run)
        daemon = self.launch()
        log = daemon.log()
        self.assertEqual(daemon.stop(), 1)
        self.assertFalse(daemon.ready)
        return log

    def test_it_refuses_a_folder_that_is_not_its_own_or_not_safe(self):
        self.assertIn("others may write there", self.refused(DAEMON, 0o775))
        self.assertIn("others may write there", self.refused(DAEMON, 0o1777))
        self.assertIn("must belong to the user", self.refused(ALICE, 0o755))
        self.assertIn("closed to others", self.refused(DAEMON, 0o700))
        self.assertIn("is not a folder", self.refused(DAEMON, 0o755, symlink=True))


if __name__ == "__main__":
    unittest.main()
