"""
Code outside the os/ folders is C11, so that compilers other than GNU's can build it: each file is compiled once more, as strictly as a compiler can be asked to.
What is used beyond that stands here with its reason. Headers of the system's own are not to be had at all, whatever they declare.
"""

import json
import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
C11 = "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdbool stddef stdint stdio stdlib string time wchar wctype"
HEADERS = {f"{name}.h" for name in C11.split()} | {"uv.h", "cjson/cJSON.h", "uthash.h"}
EXCEPTIONS = {
    "getopt.h": "getopt_long(): in every C library but Microsoft's, for which vcpkg has getopt-win32",
    "sys/queue.h": "BSD's lists, one header without includes: whoever lacks it takes a copy (docs/design.md)",
    "sanitizer/asan_interface.h": "where AddressSanitizer looks on, and nowhere else",
}
# Before the first line of each file. POSIX' types, for libuv's header names them; what else they would bring stays hidden.
PRELUDE = """
#include <features.h>
#define __USE_XOPEN2K 1
#include <bits/pthreadtypes.h>
#undef __USE_XOPEN2K
char *strdup(const char *text);         /* C23, and in every C library before */
"""


def sources(pattern):
    """All but those of one system: os/unix, os/win."""
    found = [path for top in ("protocol", "daemon", "client") for path in (ROOT / top).rglob(pattern)]
    return sorted(path for path in found if path.parent.name not in ("unix", "win"))


class TestPortable(unittest.TestCase):
    def test_no_header_is_the_systems_own(self):
        count = 0
        for source in sources("*.[ch]"):
            for name in re.findall(r"^\s*#\s*include\s*<(.*?)>", source.read_text(), re.M):
                count += 1
                self.assertTrue(name in HEADERS or name in EXCEPTIONS, f"{source.relative_to(ROOT)} includes <{name}>; put what needs it into an os/ folder")
        self.assertGreater(count, 100)

    def test_each_exception_is_needed(self):
        text = "".join(s.read_text() for s in sources("*.[ch]"))
        for name in EXCEPTIONS:
            self.assertTrue(f"<{name}>" in text, name)
        self.assertTrue("strdup(" in text)

    def commands(self):
        """By file, as the build compiles it, but strictly and to nothing."""
        wanted = {str(s) for s in sources("*.c")}
        found = {}
        for entry in json.loads((pathlib.Path(os.environ["BUILD_DIR"]) / "compile_commands.json").read_text()):
            if entry["file"] in wanted and entry["file"] not in found:
                words = re.sub(r" -(o|MF|MT) \S+| -(D_GNU_SOURCE|std=gnu11|c|MD|fsanitize=\S+|fprofile\S+|coverage)\b", "", entry["command"])
                found[entry["file"]] = shlex.split(words)
        self.assertEqual(sorted(found), sorted(wanted))
        return found

    def test_every_file_is_c11(self):
        with tempfile.NamedTemporaryFile("w", suffix=".h") as prelude:
            prelude.write(PRELUDE)
            prelude.flush()
            for source, words in self.commands().items():
                strict = ["-std=c11", "-pedantic-errors", "-Werror", "-fsyntax-only", "-include", prelude.name]
                done = subprocess.run([words[0], *strict, *words[1:]], cwd=os.environ["BUILD_DIR"], stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
