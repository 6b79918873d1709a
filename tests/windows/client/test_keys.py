"""Ctrl-C on a terminal of Linux, of which Wine makes a console."""

import fcntl
import os
import subprocess
import termios
import threading
import time
import unittest

from wine import WINE, Case, program, windows_path

ARGUMENTS = windows_path(program("ARGUMENTS"))


class Keys(Case):
    def start_on_terminal(self, *words):
        master, slave = os.openpty()
        self.addCleanup(os.close, master)

        def own_the_terminal():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        process = subprocess.Popen([WINE, program("LOCKCTL"), *words], cwd=self.folder, env=self.environment, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own_the_terminal)
        os.close(slave)
        self.addCleanup(process.wait, 20)
        self.addCleanup(process.kill)
        threading.Thread(target=self.drain, args=(master,), daemon=True).start()
        return process, master

    def drain(self, master):
        """Nobody may have to wait for the terminal."""
        try:
            while os.read(master, 4096):
                pass
        except OSError:
            pass

    def test_ctrl_c_ends_a_wait_with_130(self):
        self.hold()
        process, terminal = self.start_on_terminal("run", "f.lock", ARGUMENTS)
        self.await_waiting(1)
        os.write(terminal, b"\x03")
        self.assertEqual(process.wait(20), 130)
        self.await_waiting(0)

    def test_ctrl_c_ends_the_command_and_what_it_has_started(self):
        inner = f'start "" /b "{windows_path(program("RECIPE"))}" "{windows_path(self.folder / "alive")}" EX & ping -n 60 127.0.0.1 >nul'
        process, terminal = self.start_on_terminal("run", "f.lock", "-c", inner)
        self.await_rows("held", 1)
        while self.start_and_end("RECIPE", windows_path(self.folder / "alive"), "EX_NB") == "EX_NB ok":
            pass  # until the grandchild has its lock
        os.write(terminal, b"\x03")
        time.sleep(0.2)  # keys that come at once are one to the console
        os.write(terminal, b"\x03")
        self.assertIsNotNone(process.wait(20))
        probe = self.start("RECIPE", windows_path(self.folder / "alive"), "EX")
        self.assertEqual([probe.line(), probe.line()], ["EX asked", "EX ok"])

    def start_and_end(self, *words):
        r = self.start(*words)
        line = r.line()
        r.wait()
        return line


if __name__ == "__main__":
    unittest.main(verbosity=2)
