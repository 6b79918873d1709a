"""The manual pages are true: commands, options, exit codes and variables are those of the programs."""

import os
import re
import shutil
import subprocess
import unittest

from documents import DOCS, SOURCE, read
from wire import PATIENCE, PORTALOCKD

LOCKCTL = os.environ.get("LOCKCTL", "lockctl")


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
