"""What wire.py does otherwise when the daemon runs under Wine, behind tests/windows/relay.c: the same tests, the same lines, over named pipes.

Files have one name here and another there: /tmp/x is Z:/tmp/x under Wine, and Z:\\tmp\\x when Wine says it itself."""

import os
import re
import socket
import subprocess

RELAY = os.environ.get("PORTALOCK_RELAY")
OUTSIDER = os.environ.get("PORTALOCK_OUTSIDER")
WINE = os.environ.get("PORTALOCK_WINE", "/usr/lib/wine/wine64")
READY = re.compile(r"READY port (\d+) pid (\d+) uid (\d+)\s*$")


def foreign(path):
    return "Z:" + path


def outgoing(data):
    """Paths in the bytes of requests, as json.dumps() or a test writes them."""
    return re.sub(rb'("path": ?")/', rb"\1Z:/", data)


def incoming(value):
    """The names of files in a message."""
    if isinstance(value, dict):
        return {k: incoming(v) for k, v in value.items()}
    if isinstance(value, list):
        return [incoming(v) for v in value]
    if isinstance(value, str) and re.match(r"Z:[\\/]", value):
        return value[2:].replace("\\", "/")
    return value


def connect(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def start(daemon, program, options, state_dir, log):
    """Starts relay and daemon. True when the daemon is ready."""
    daemon.pipe = "test" + daemon.folder.replace("/", "-")
    daemon.process = subprocess.Popen(
        [WINE, RELAY, daemon.pipe, foreign(program), "--state-dir", foreign(state_dir), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    line = daemon.process.stdout.readline()
    daemon.process.stdout.close()
    ready = READY.match(line)
    if not ready:
        return False
    daemon.path, daemon.client_pid, daemon.client_uid = (int(g) for g in ready.groups())
    return True


class Outsider:
    """tests/windows/outsider.c: locks as the portalocker recipe does, and knows nothing of us."""

    def __init__(self, path, mode, nonblocking=False):
        self.process = subprocess.Popen(
            [WINE, OUTSIDER, foreign(path), mode, *(["NB"] if nonblocking else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def locked(self):
        """Awaits the lock; False when it is refused."""
        return self.process.stdout.readline().strip() == "locked"

    def unlock(self):
        """Lets go; its exit code."""
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        return code

    def kill(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(20)


def is_free(path, mode):
    o = Outsider(path, mode, nonblocking=True)
    free = o.locked()
    code = o.unlock()
    if code != (0 if free else 1):
        raise AssertionError(f"outsider ended with {code}")
    return free
