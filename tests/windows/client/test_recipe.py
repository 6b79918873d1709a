"""Programs that lock as recipe 65203 does, and ours, keep each other out; and no update is lost."""

import os
import re
import subprocess
import unittest

from wine import Case, program, windows_path

ARGUMENTS = windows_path(program("ARGUMENTS"))
BLOCKED = 0.4  # seconds in which nothing happens to one who waits


class Outsiders(Case):
    """The recipe's range is 0 to 0xFFFF000000000000, ours one byte within it."""

    def test_the_recipe_excludes_us_for_both_modes(self):
        for flag, mode, refused in (("EX", "-x", True), ("EX", "-s", True), ("SH", "-x", True), ("SH", "-s", False)):
            with self.subTest(recipe=flag, ours=mode):
                outsider = self.recipe(flag)
                self.assertEqual([outsider.line(), outsider.line()], [flag + " asked", flag + " ok"])
                self.assertEqual(self.run_lockctl("run", "-n", mode, "f.lock", ARGUMENTS)[0], 1 if refused else 0)
                ours = self.lockctl("run", mode, "f.lock", ARGUMENTS, "in")
                if refused:
                    self.assertTrue(ours.is_silent(BLOCKED))
                outsider.end_input()
                self.assertEqual(ours.line(), "[in]")
                self.assertEqual(ours.wait(), 1)
                outsider.wait()

    def test_we_exclude_the_recipe_for_both_modes(self):
        for mode, flag, refused in (("-x", "EX", True), ("-x", "SH", True), ("-s", "EX", True), ("-s", "SH", False)):
            with self.subTest(ours=mode, recipe=flag):
                ours = self.hold(mode)
                outsider = self.recipe(flag + "_NB")
                self.assertRegex(outsider.line(), " refused 33$" if refused else " ok$")
                outsider.end_input()
                outsider.wait()
                outsider = self.recipe(flag)
                self.assertEqual(outsider.line(), flag + " asked")
                if refused:
                    self.assertTrue(outsider.is_silent(BLOCKED))
                ours.end_input()
                self.assertEqual(outsider.line(), flag + " ok")
                outsider.end_input()
                outsider.wait()
                ours.wait()

    def test_a_killed_outsider_lets_us_in(self):
        outsider = self.recipe("EX_NB")
        self.assertEqual(outsider.line(), "EX_NB ok")
        ours = self.lockctl("run", "f.lock", ARGUMENTS, "in")
        self.assertTrue(ours.is_silent(BLOCKED))
        outsider.kill()
        self.assertEqual(ours.line(), "[in]")

    def test_the_system_itself_does_not_let_the_recipe_lock_twice(self):
        """What the recipe left unsolved; test_library.c shows that we do."""
        for first, second in (("EX", "EX"), ("SH", "EX")):
            outsider = self.recipe(first, second)
            self.assertEqual([outsider.line(), outsider.line(), outsider.line()], [first + " asked", first + " ok", second + " asked"])
            self.assertTrue(outsider.is_silent(BLOCKED))
            outsider.kill()

    def test_what_we_lock_can_be_read_and_written(self):
        """Windows' locks are mandatory; ours lies where no data is. (Under Wine no lock is, so that there this sees little.)"""
        self.file.write_text("before")
        code, out, err = self.run_lockctl("run", "f.lock", "-c", "type f.lock & echo after>f.lock")
        self.assertEqual((code, out.strip()), (0, "before"), err)
        self.assertEqual(self.file.read_text().strip(), "after")


class Counting(Case):
    def test_eight_processes_count_to_four_hundred_in_the_locked_file(self):
        counters = [self.start("COUNTER", windows_path(self.file), "50") for _ in range(8)]
        for counter in counters:
            self.assertEqual(counter.wait(), 0, counter.errors)
        self.assertEqual(int(self.file.read_text()), 400)

    def test_lockctl_with_and_without_a_daemon_counts_along(self):
        self.file.write_text("0\r\n")
        counters = [self.start("COUNTER", windows_path(self.file), "20") for _ in range(2)]
        alone = {"PORTALOCK_NO_SPAWN": "1", "PORTALOCK_SOCKET": "nobody-" + self.folder.name}
        for round in range(10):
            code, _, err = self.run_lockctl("run", "f.lock", windows_path(program("COUNTER")), windows_path(self.file), "unlocked", **(alone if round % 2 else {}))
            self.assertEqual(code, 0, err)
        for counter in counters:
            self.assertEqual(counter.wait(), 0, counter.errors)
        self.assertEqual(int(self.file.read_text()), 50)


class Built(unittest.TestCase):
    """The DLL: what it exports, and what programs of ours ask of the system."""

    def dump(self, path):
        return subprocess.run([os.environ["OBJDUMP"], "-p", path], check=True, capture_output=True, text=True).stdout

    def named(self):
        """Functions of the header."""
        header = os.path.join(os.path.dirname(__file__), "..", "..", "..", "client", "include", "portalock.h")
        with open(header, encoding="utf-8") as f:
            named = set(re.findall(r"^PORTALOCK_API [^;(]*?\b(portalock_\w+)\(", f.read(), re.M))
        self.assertGreater(len(named), 30)
        return named

    def test_the_static_library_defines_what_the_header_names_and_nothing_else_for_all(self):
        symbols = subprocess.run([os.environ["NM"], "--extern-only", "--defined-only", os.environ["PORTALOCK_STATIC"]], check=True, capture_output=True, text=True).stdout
        self.assertEqual(set(re.findall(r" T (\S+)$", symbols, re.M)), self.named())
        self.assertEqual(re.findall(r" [BDCR] (\S+)$", symbols, re.M), [])

    def test_the_dll_exports_what_the_header_names(self):
        named = self.named()
        dump = self.dump(os.environ["PORTALOCK_DLL"])
        table = dump[dump.index("[Ordinal/Name Pointer] Table"):]
        exported = set(re.findall(r"^\s*\[ *\d+\] (?:\+base\[ *\d+\] +[0-9a-f]+ )?(\S+)$", table[:table.index("\n\n")], re.M))
        self.assertEqual(exported, named)

    def test_only_libraries_of_the_system_are_needed(self):
        system = {"advapi32", "kernel32", "msvcrt", "user32", "shell32", "ole32", "psapi", "iphlpapi", "userenv", "ws2_32", "dbghelp", "winmm"}
        for path in (os.environ["PORTALOCK_DLL"], program("LOCKCTL"), os.environ["PORTALOCKD"]):
            needed = {name.lower().removesuffix(".dll") for name in re.findall(r"DLL Name: (\S+)", self.dump(path))}
            self.assertIn("kernel32", needed)
            self.assertLessEqual({name for name in needed if not name.startswith("api-ms-win-")}, system, path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
