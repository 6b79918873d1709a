"""A file system in FUSE that hangs when told to: what a dead file server looks like. Speaks the kernel's protocol (linux/fuse.h) by itself."""

import ctypes
import errno
import fcntl
import os
import stat
import struct
import tempfile
import threading

LOOKUP, FORGET, GETATTR, OPEN, STATFS, RELEASE, FLUSH, INIT, OPENDIR, INTERRUPT, DESTROY, BATCH_FORGET = 1, 2, 3, 14, 17, 18, 25, 26, 27, 36, 38, 42
RELEASEDIR, SETLK, SETLKW = 29, 32, 33
FLOCK_LOCKS = 1 << 10  # in INIT: flock(2) is asked of us
NO_ANSWER = {FORGET, INTERRUPT, BATCH_FORGET}
ROOT = 1
MNT_FORCE, MNT_DETACH = 1, 2

libc = ctypes.CDLL(None, use_errno=True)


class Unavailable(Exception):
    """No FUSE to be had here."""


class HangingFs:
    """
    Holds empty files file0, file1, ... Requests of the kinds in `hang(...)` stay unanswered until `go_on()`. With `locks` it is the one who is asked for
    locks, as a file server is: all files are locked by somebody else while `locked` is True.
    """

    def __init__(self, locks=False):
        self.locks = self.locked = locks
        self.mountpoint = tempfile.mkdtemp(prefix="portalock-fuse-")
        try:
            self.device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            os.rmdir(self.mountpoint)
            raise Unavailable(f"/dev/fuse: {e.strerror}") from e
        options = f"fd={self.device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other".encode()
        if libc.mount(b"portalock-test", self.mountpoint.encode(), b"fuse", 0, options) != 0:
            os.close(self.device)
            os.rmdir(self.mountpoint)
            raise Unavailable(f"mount: {os.strerror(ctypes.get_errno())}")
        self.changed = threading.Condition()
        self.hanging = set()
        self.held = []  # (opcode, unique, node, body), unanswered
        self.server = threading.Thread(target=self.serve)
        self.server.start()

    def path(self, name):
        return os.path.join(self.mountpoint, name)

    def hang(self, *opcodes):
        with self.changed:
            self.hanging = set(opcodes)

    def await_hanging(self, count=1, timeout=20.0):
        """Until so many requests hang."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.held) >= count, timeout):
                raise TimeoutError(f"{len(self.held)} requests hang, not {count}")

    def go_on(self):
        with self.changed:
            self.hanging = set()
            held, self.held = self.held, []
        for request in held:
            self.answer(*request)

    def close(self):
        self.go_on()
        if libc.umount2(self.mountpoint.encode(), MNT_FORCE) != 0:
            libc.umount2(self.mountpoint.encode(), MNT_DETACH)
        self.server.join()
        os.close(self.device)
        os.rmdir(self.mountpoint)

    def serve(self):
        while True:
            try:
                data = os.read(self.device, 1 << 17)
            except InterruptedError:
                continue
            except OSError:
                return  # unmounted
            _, opcode, unique, node = struct.unpack_from("=IIQQ", data)
            with self.changed:
                if opcode in self.hanging:
                    self.held.append((opcode, unique, node, data[40:]))
                    self.changed.notify_all()
                    continue
            self.answer(opcode, unique, node, data[40:])

    def answer(self, opcode, unique, node, body):
        if opcode in NO_ANSWER:
            return
        error, result = 0, b""
        if opcode == INIT:
            flags = FLOCK_LOCKS if self.locks else 0
            result = struct.pack("=IIIIHHIIHHI7I", 7, 31, 65536, flags, 12, 9, 65536, 1, 0, 0, 0, *[0] * 7)
        elif opcode == LOOKUP:
            name = body[:-1].decode()
            if name.startswith("file"):
                node = 2 + int(name[4:] or 0)
                result = struct.pack("=QQQQII", node, 0, 0, 0, 0, 0) + self.attributes(node)  # valid for no time at all
            else:
                error = errno.ENOENT
        elif opcode == GETATTR:
            result = struct.pack("=QII", 0, 0, 0) + self.attributes(node)
        elif opcode in (OPEN, OPENDIR):
            result = struct.pack("=QII", 0, 0, 0)
        elif opcode in (SETLK, SETLKW):
            unlocks = struct.unpack_from("=I", body, 32)[0] == fcntl.F_UNLCK
            error = errno.EAGAIN if self.locked and not unlocks else 0
        elif opcode == STATFS:
            result = bytes(80)
        elif opcode not in (FLUSH, RELEASE, RELEASEDIR, DESTROY):
            error = errno.ENOSYS
        try:
            os.write(self.device, struct.pack("=IiQ", 16 + len(result), -error, unique) + result)
        except OSError:
            pass  # interrupted meanwhile, or unmounted

    @staticmethod
    def attributes(node):
        mode = stat.S_IFDIR | 0o777 if node == ROOT else stat.S_IFREG | 0o666
        return struct.pack("=QQQQQQIIIIIIIIII", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)
