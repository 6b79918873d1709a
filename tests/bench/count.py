"""What the daemon does for one pair of lock and unlock by path, without the system's part: a count that a busy machine does not disturb.

  count.py BUILD plain|pipe [ir|allocs]

The difference of two runs under valgrind. plain: one request at a time; pipe: 16 under way. ir: instructions; allocs: calls of malloc(3) and the like.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

FEW, MANY = 200, 1200
NAMES = 8


def request(number, method, params):
    return '{"jsonrpc":"2.0","id":%d,"method":"%s","params":{%s}}\n' % (number, method, params)


class Run:
    def __init__(self, folder, tool):
        self.paths = [os.path.join(folder, "a-name-of-the-usual-length-00000-%02d.lock" % i) for i in range(NAMES)]
        for path in self.paths:  # valgrind does not know openat2(2), which finds what is to be made
            open(path, "w", encoding="utf-8").close()
        self.log = os.path.join(folder, "valgrind.log")
        self.tool = tool
        self.folder = folder

    def start(self, build):
        ready, tell = os.pipe()
        address = os.path.join(self.folder, "socket")
        flags = ["--tool=callgrind", "--callgrind-out-file=" + os.path.join(build, "count.callgrind")] if self.tool == "ir" else ["--leak-check=no"]
        self.daemon = subprocess.Popen(
            ["valgrind", "--log-file=" + self.log, *flags, os.path.join(build, "daemon/portalockd"), "--socket", address, "--state-dir", self.folder, "--ready-fd", str(tell)],
            pass_fds=[tell], stderr=subprocess.DEVNULL)
        os.close(tell)
        os.read(ready, 16)
        os.close(ready)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(address)
        self.replies = self.socket.makefile("rb")

    def reply(self, what):
        line = self.replies.readline()
        if what not in line:
            sys.exit("count.py: %r" % line)
        return line

    def plain(self):
        self.socket.sendall(request(1, "lock", '"path":"%s","flags":["LOCK_EX"]' % self.paths[0]).encode())
        lock = re.search(rb'"lock":(\d+)', self.reply(b'"lock":'))[1].decode()
        self.socket.sendall(request(2, "unlock", '"lock":' + lock).encode())
        self.reply(b"true")
        return 1

    def pipe(self):
        lines = [request(1, "lock", '"path":"%s","flags":["LOCK_EX"]' % p) + request(2, "unlock", '"path":"%s"' % p) for p in self.paths]
        self.socket.sendall("".join(lines).encode())
        for _ in self.paths:
            self.reply(b'"lock":')
            self.reply(b"true")
        return len(self.paths)

    def end(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(60)
        with open(self.log, encoding="utf-8") as f:
            count = re.search(r"Collected : (\d+)" if self.tool == "ir" else r"total heap usage: ([\d,]+) allocs", f.read())
        return int(count[1].replace(",", ""))


def total(build, mode, tool, pairs):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder, tool)
        run.start(build)
        done = 0
        while done < pairs:
            done += getattr(run, mode)()
        return run.end()


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[2] not in ("plain", "pipe") or sys.argv[3:] not in ([], ["ir"], ["allocs"]):
        sys.exit(__doc__)
    build, mode, tool = sys.argv[1], sys.argv[2], (sys.argv[3:] or ["ir"])[0]
    few, many = total(build, mode, tool, FEW), total(build, mode, tool, MANY)
    print("%s %s: %.1f for each pair" % (mode, tool, (many - few) / (MANY - FEW)))


if __name__ == "__main__":
    main()
