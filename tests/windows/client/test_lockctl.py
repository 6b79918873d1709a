"""lockctl.exe through its real command line."""

import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

from wine import WINE, Case, program, windows_path

ARGUMENTS = windows_path(program("ARGUMENTS"))


class Run(Case):
    def test_the_exit_code_the_output_and_the_input_are_the_commands(self):
        code, out, err = self.run_lockctl("run", "f.lock", "cmd", "/c", "echo out& echo err>&2& exit 7")
        self.assertEqual((code, out.split(), err.split()), (7, ["out"], ["err"]))
        r = self.lockctl("run", "f.lock", "cmd", "/c", "set /p word= & call echo got %word%")
        r.write("hello\r\n")
        self.assertEqual(r.line().strip(), "got hello")
        self.assertEqual(r.wait(), 0)

    def test_the_command_finds_session_token_and_file(self):
        _, out, _ = self.run_lockctl("run", "--verbose", "f.lock", ARGUMENTS, "PORTALOCK_SESSION=", "PORTALOCK_TOKEN=", "PORTALOCK_FILE=")
        session, token, file = [line.strip("[]") for line in out.split()]
        self.assertGreater(int(session), 0)
        self.assertGreater(int(token), 0)
        self.assertEqual(file, windows_path(self.file))

    def test_the_second_of_two_waits_and_runs_as_soon_as_the_holder_is_killed(self):
        delays = []
        for _ in range(5):
            first = self.hold()
            second = self.lockctl("run", "f.lock", ARGUMENTS, "second")
            self.await_waiting(1)
            rows = self.list_rows()
            self.assertEqual([row["STATE"] for row in rows], ["held", "waiting"])
            self.assertEqual([row["COMMAND"] for row in rows], ["recipe.exe", "arguments.exe"])
            self.assertEqual(len({row["PID"] for row in rows} - {"-", "0"}), 2)
            self.assertFalse(any(row["USER"].isdigit() or row["USER"] == "-" for row in rows), rows)
            self.assertTrue(second.lines.empty())
            killed = time.monotonic()
            first.process.kill()
            at, line = second.timed_line()
            self.assertEqual(line, "[second]")
            delays.append(at - killed)
            self.assertEqual(second.wait(), 1)  # arguments.exe counts
            first.wait()
        print(f"second runs after {', '.join(f'{d * 1000:.0f}' for d in delays)} ms")
        self.assertLess(sorted(delays)[1], 0.1)  # the others may have met other work of this machine

    def list_rows(self):
        code, out, err = self.run_lockctl("list", "-o", "COMMAND,PID,USER,STATE,PATH")
        self.assertEqual(code, 0, err)
        heading, *rows = out.splitlines()
        return [dict(zip(heading.split(), row.split())) for row in rows]

    def test_n_w_and_E(self):
        self.hold()
        code, out, err = self.run_lockctl("run", "-n", "f.lock", ARGUMENTS, "never")
        self.assertEqual((code, out), (1, ""))
        self.assertIn("held by recipe.exe[", err)
        self.assertEqual(self.run_lockctl("run", "-n", "-E", "9", "f.lock", ARGUMENTS)[0], 9)
        began = time.monotonic()
        code, out, err = self.run_lockctl("run", "-w", "0.4", "f.lock", ARGUMENTS, "never")
        self.assertEqual((code, out), (1, ""))
        self.assertGreaterEqual(time.monotonic() - began, 0.4)
        self.assertIn("the time ran out", err)

    def test_shared_ones_overlap(self):
        self.hold("-s")
        self.assertEqual(self.run_lockctl("run", "-n", "-s", "f.lock", ARGUMENTS)[0], 0)
        self.assertEqual(self.run_lockctl("run", "-n", "-x", "f.lock", ARGUMENTS)[0], 1)

    def test_what_windows_cannot_do_is_refused(self):
        for words in (["9"], ["--fd", "9", ARGUMENTS], ["-F", "f.lock", ARGUMENTS], ["-u", "f.lock", ARGUMENTS], ["-u", "9"], ["--remove", "f.lock", ARGUMENTS]):
            code, out, err = self.run_lockctl("run", *words)
            self.assertEqual((code, out), (64, ""), words)
            self.assertIn("not possible on Windows", err)
        self.assertFalse(self.file.exists())

    def test_files_that_cannot_be_locked(self):
        for name, want in (("missing\\f", 66), ("NUL", 66), ("f.lock:stream", 66), ("\\\\.\\pipe\\x", 66), ("", 66)):
            code, out, err = self.run_lockctl("run", name, ARGUMENTS)
            self.assertEqual((code, out), (want, ""), (name, err))
            self.assertEqual(err.count("\n"), 1, err)
        self.assertEqual(list(self.folder.iterdir()), [])
        (self.folder / "sub").mkdir()
        for variables in ({}, {"PORTALOCKD": "Z:\\nowhere.exe", "PORTALOCK_SOCKET": self.folder.name + "-none"}):
            code, out, err = self.run_lockctl("run", "sub", ARGUMENTS, **variables)
            self.assertEqual((code, out), (65, ""), err)
            self.assertIn("sub: not a file that can be locked", err)

    def test_all_spellings_of_a_path_are_one_lock(self):
        self.hold()
        (self.folder / "sub").mkdir()
        full = windows_path(self.file)
        spellings = ["F.LOCK", ".\\f.lock", "./f.lock", "sub\\..\\f.lock", full, full.replace("\\", "/"), "\\\\?\\" + full, "//?/" + full]
        if full[1] == ":":
            spellings += [full[2:], full[:2] + "f.lock"]  # from the drive's root, from the drive's current folder
        for spelling in spellings:
            self.assertEqual(self.run_lockctl("run", "-n", spelling, ARGUMENTS)[0], 1, spelling)
            self.assertIn("held", self.run_lockctl("list", "-n", "-o", "STATE", spelling)[1], spelling)

    def test_names_beyond_ascii_and_beyond_260_characters(self):
        name = "gr\u00fc\u00dfe \u4e16\u754c.lock"
        code, out, err = self.run_lockctl("run", name, ARGUMENTS, "PORTALOCK_FILE=", "\u03c0 \U0001f512")
        self.assertEqual((code, out), (2, f"[{windows_path(self.folder / name)}]\r\n[\u03c0 \U0001f512]\r\n"), err)
        self.assertTrue((self.folder / name).exists())
        deep = self.folder / ("a" * 120) / ("b" * 120) / ("c" * 120)
        deep.mkdir(parents=True)
        for path in (deep / "f", (deep / "f").relative_to(self.folder)):
            path = windows_path(path) if path.is_absolute() else str(path).replace("/", "\\")
            code, _, err = self.run_lockctl("run", path, ARGUMENTS)
            self.assertEqual(code, 0, err)
        self.assertTrue((deep / "f").exists())


class Commands(Case):
    def test_arguments_arrive_as_they_are(self):
        words = ["a b", 'say "hi"', "back\\slash\\", "a\\\\\"b", "", "%PATH%", "&|<>^", "tab\there", "trailing \\", "*", "(x)"]
        code, out, _ = self.run_lockctl("run", "f.lock", ARGUMENTS, *words)
        self.assertEqual(out.replace("\r", ""), "".join(f"[{word}]\n" for word in words))
        self.assertEqual(code, len(words))

    def test_a_batch_file_gets_its_arguments_whatever_they_hold(self):
        (self.folder / "tool.cmd").write_text(f'@echo off\r\n"{ARGUMENTS}" %*\r\n')
        # Wine's cmd reads %% otherwise than Windows' and cannot show that no variable gets in.
        for words in (["a b", "c"], [] if WINE else ["%PATH%", "%cd%"], ["a&echo injected", "|more", "<nul", ">made"], ["x^y", "(z)", "!a!"]):
            code, out, err = self.run_lockctl("run", "f.lock", "tool", *words)
            self.assertEqual(out.replace("\r", ""), "".join(f"[{word}]\n" for word in words), err)
            self.assertEqual(code, len(words))
        self.assertFalse((self.folder / "made").exists())

    def test_found_as_cmd_finds_it(self):
        bin = self.folder / "bin"
        bin.mkdir()
        (bin / "inpath.bat").write_text("@echo bat of PATH\r\n")
        (bin / "both.cmd").write_text("@echo both of PATH\r\n")
        (self.folder / "both.cmd").write_text("@echo both of here\r\n")
        path = windows_path(bin) + ";" + "C:\\windows\\system32"
        for word, want in (("inpath", "bat of PATH"), ("INPATH.BAT", "bat of PATH"), ("both", "both of here"), ("bin\\both", "both of PATH"), ("./both.cmd", "both of here")):
            code, out, err = self.with_path(path, word)
            self.assertEqual((code, out.strip()), (0, want), err)
        code, out, err = self.with_path(path, "both", NoDefaultCurrentDirectoryInExePath="1")
        self.assertEqual((code, out.strip()), (0, "both of PATH"), err)

    def with_path(self, path, word, **variables):
        """PATH is set by a shell: Wine keeps it from Linux' environment."""
        lockctl = windows_path(program("LOCKCTL"))
        return self.run_lockctl("run", "other.lock", "-c", f'set "PATH={path}"& "{lockctl}" run f.lock {word}', **variables)

    def test_what_cannot_be_run(self):
        for word in ("nosuchthing", "echo", "sub\\nothing.exe", ""):
            code, out, err = self.run_lockctl("run", "f.lock", word)
            self.assertEqual((code, out), (69, ""), word)
            self.assertIn("cannot run", err)
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS)[0], 0)

    def test_c_gives_the_line_to_the_shell_as_it_is(self):
        code, out, _ = self.run_lockctl("run", "f.lock", "-c", 'echo "a  b" & echo %OS% & exit 5')
        self.assertEqual([line.strip() for line in out.splitlines()], ['"a  b"', "Windows_NT"])
        self.assertEqual(code, 5)

    def test_what_the_command_leaves_running_is_waited_for_unless_o_says_otherwise(self):
        inner = f'start "" /b "{windows_path(program("RECIPE"))}" "{windows_path(self.folder / "other")}" SH_NB'
        left = self.lockctl("run", "f.lock", "-c", inner)
        self.assertEqual(left.line(), "SH_NB ok")
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS)[0], 1)
        left.end_input()  # which the one that was left has
        self.assertEqual(left.wait(), 0)
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS)[0], 0)
        left = self.lockctl("run", "-o", "f.lock", "-c", inner)
        self.assertEqual(left.line(), "SH_NB ok")
        self.assertEqual(self.run_lockctl("run", "-w", "20", "f.lock", ARGUMENTS)[0], 0)
        self.assertEqual(left.process.wait(20), 0)
        left.end_input()


class Daemon(Case):
    def found(self, path):
        """Does a lockctl that has no daemon beside it find one by this PATH, from within the folder of one?"""
        lockctl = self.folder / "alone" / "lockctl.exe"
        if not lockctl.exists():
            for name, source in ((lockctl, "LOCKCTL"), (self.folder / "portalockd.exe", "PORTALOCKD")):
                name.parent.mkdir(exist_ok=True)
                shutil.copy(os.environ[source], name)
        line = f'set "PATH={path}"& set PORTALOCKD=& set PORTALOCK_SOCKET={self.folder.name}-found& alone\\lockctl.exe run --require-daemon f.lock "{ARGUMENTS}"'
        code, _, err = self.run_lockctl("run", "other.lock", "-c", line)
        if code == 0:
            self.run_lockctl("stop", "--force", PORTALOCK_SOCKET=f"{self.folder.name}-found")
        else:
            self.assertIn("portalockd.exe is neither", err)
        return code == 0

    def test_it_is_found_by_whole_paths_alone(self):
        here = windows_path(self.folder)
        for path in ("", ";", ".", ";.;", "..\\", here[2:], here[:2] + "."):
            self.assertFalse(self.found(path), path)
        for path in (here, f'.;"{here}"', f";;{here}\\;x", here.replace("\\", "/")):
            self.assertTrue(self.found(path), path)


class Loss(Case):
    def start_tree(self):
        """A command with a child of its own, which says when it runs."""
        inner = f'"{windows_path(program("RECIPE"))}" "{windows_path(self.folder / "alive")}" EX'
        r = self.lockctl("run", "f.lock", "-c", inner)
        self.assertEqual(r.line(), "EX asked")
        self.assertEqual(r.line(), "EX ok")
        return r

    def assert_tree_is_gone(self):
        """Its innermost program held a lock of its own."""
        probe = self.start("RECIPE", windows_path(self.folder / "alive"), "EX")
        self.assertEqual([probe.line(), probe.line()], ["EX asked", "EX ok"])

    def test_a_broken_lock_ends_the_whole_tree(self):
        r = self.start_tree()
        rows = json.loads(self.run_lockctl("list", "-J")[1])["locks"]
        lock = rows[0]["holders"][0]["lock"]
        code, _, err = self.run_lockctl("break", "--yes", str(lock))
        self.assertEqual(code, 0, err)
        self.assertEqual(r.process.wait(20), 75)
        self.assert_tree_is_gone()
        r.wait()
        self.assertIn("the lock was taken away", r.errors)

    def test_a_killed_daemon_ends_the_whole_tree(self):
        r = self.start_tree()
        self.kill_daemon()
        self.assertEqual(r.process.wait(20), 75)
        self.assert_tree_is_gone()
        r.wait()
        self.assertIn("the lock was taken away", r.errors)

    def kill_daemon(self):
        pid = self.run_lockctl("ping")[1].split("pid ")[1].split(",")[0]
        self.assertEqual(self.run_lockctl("run", "kill.lock", "-c", f"taskkill /f /pid {pid} >nul")[0] in (0, 75), True)

    def test_on_lost_warn_lets_it_run(self):
        r = self.hold("--on-lost", "warn")
        self.kill_daemon()
        r.end_input()
        self.assertEqual(r.wait(), 0)
        self.assertIn("the lock was taken away", r.errors)

    def test_a_killed_lockctl_takes_the_tree_along(self):
        r = self.start_tree()
        r.kill()
        self.assert_tree_is_gone()


class Directly(Case):
    """Without a daemon."""

    def setUp(self):
        super().setUp()
        self.environment["PORTALOCK_NO_SPAWN"] = "1"

    def test_the_lock_is_taken_all_the_same(self):
        r = self.hold()
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS)[0], 1)
        self.assertEqual(self.run_lockctl("run", "-w", "0.3", "-E", "8", "f.lock", ARGUMENTS)[0], 8)
        waits = self.lockctl("run", "--verbose", "f.lock", ARGUMENTS, "waited")
        self.assertTrue(waits.is_silent(0.5))
        r.end_input()
        self.assertEqual(waits.line(), "[waited]")
        waits.wait()
        self.assertIn("locking with LockFileEx directly", waits.errors)

    def test_shared_ones_overlap(self):
        self.hold("-s")
        self.assertEqual(self.run_lockctl("run", "-n", "-s", "f.lock", ARGUMENTS)[0], 0)
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS)[0], 1)

    def test_it_excludes_a_daemon_and_is_excluded(self):
        r = self.hold()
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS, PORTALOCK_NO_SPAWN="0")[0], 1)
        r.end_input()
        r.wait()
        self.assertEqual(self.run_lockctl("run", "-n", "f.lock", ARGUMENTS, PORTALOCK_NO_SPAWN="0")[0], 0)

    def test_require_daemon_refuses(self):
        code, _, err = self.run_lockctl("run", "--require-daemon", "f.lock", ARGUMENTS)
        self.assertEqual(code, 69)
        self.assertIn("no daemon listens there", err)


    def test_a_daemon_that_the_command_starts_is_not_the_commands(self):
        """Else we would wait for it, and end it."""
        inner = f'set PORTALOCK_NO_SPAWN=0& "{windows_path(program("LOCKCTL"))}" run other.lock "{ARGUMENTS}" in'
        began = time.monotonic()
        code, out, err = self.run_lockctl("run", "f.lock", "-c", inner)
        self.assertEqual((code, out.strip()), (1, "[in]"), err)
        self.assertLess(time.monotonic() - began, 30)  # it would stay for a minute
        self.assertEqual(self.run_lockctl("ping")[0], 0)


class Others(Case):
    def test_by_the_name_of_flock_it_is_flock(self):
        flock = shutil.copy(program("LOCKCTL"), self.folder / "Flock.EXE")
        done = subprocess.run([*([WINE] if WINE else []), flock, "-n", "f.lock", ARGUMENTS, "a"], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, timeout=60)
        self.assertEqual((done.returncode, done.stdout.decode().strip()), (1, "[a]"))
        with tempfile.TemporaryFile() as stderr:
            self.assertEqual(subprocess.run([*([WINE] if WINE else []), flock, "9"], cwd=self.folder, env=self.environment, stderr=stderr, timeout=60).returncode, 64)
            stderr.seek(0)
            self.assertTrue(stderr.read().startswith(b"flock: locking a descriptor by its number is not possible on Windows"))

    def test_sockname_ping_stats_and_stop(self):
        name = "\\\\.\\pipe\\" + self.folder.name
        self.assertEqual(self.run_lockctl("sockname"), (0, name + "\n", ""))
        self.assertEqual(self.run_lockctl("ping")[0], 69)
        self.assertEqual(self.run_lockctl("list"), (0, "", ""))
        self.assertEqual(self.run_lockctl("list", "-J"), (0, '{"locks":[]}\n', ""))
        self.assertEqual(self.run_lockctl("run", "f.lock", ARGUMENTS)[0], 0)
        code, out, _ = self.run_lockctl("ping")
        self.assertEqual(code, 0)
        self.assertRegex(out, r"^portalockd \S+, pid \d+, on ")
        self.assertEqual(json.loads(self.run_lockctl("stats")[1])["counters"]["granted"], 1)
        self.hold()
        code, _, err = self.run_lockctl("stop")
        self.assertEqual(code, 77, err)  # it is held by path
        self.assertEqual(self.run_lockctl("stop", "--force")[0], 0)

    def test_watch_tells_what_happens(self):
        self.assertEqual(self.run_lockctl("run", "f.lock", ARGUMENTS)[0], 0)
        watch = self.lockctl("watch", "--json", "f.lock")
        while watch.lines.empty():  # until it listens
            self.run_lockctl("run", "f.lock", ARGUMENTS)
        self.hold()
        seen = [json.loads(watch.line())]
        while seen[-1]["client"] != "recipe.exe":
            seen.append(json.loads(watch.line()))
        self.assertEqual(seen[-1]["event"], "granted")
        self.assertEqual(seen[-1]["path"], windows_path(self.file))
        self.assertLessEqual({e["event"] for e in seen}, {"granted", "released"})

    def test_the_example_of_a_loop_does_other_things_while_it_waits(self):
        shutil.copy(os.environ["PORTALOCK_DLL"], self.folder)  # where Windows looks for it as well, the current folder
        holder = self.hold()
        loop = self.start("EXAMPLE", "f.lock")
        self.assertEqual(loop.line(), "waiting at place 1 for lockctl.exe")
        self.assertEqual(loop.line(), "meanwhile")
        holder.end_input()
        self.assertEqual(loop.rest()[-1], "locked")
        self.assertEqual(loop.wait(), 0)

    def test_help_tells_what_windows_cannot_do(self):
        code, out, _ = self.run_lockctl("help", "run")
        self.assertEqual(code, 0)
        self.assertIn("On Windows the lock belongs to lockctl alone", out)
        self.assertEqual(self.run_lockctl("nosuch")[0], 64)


if __name__ == "__main__":
    unittest.main(verbosity=2)
