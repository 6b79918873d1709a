"""A client for the chaos test that speaks JSON by itself: raw.py fd|path FOLDER FILES SEED, until SIGTERM. client.c has the story.

`fd` passes its descriptors, so its locks outlive the daemon: it reclaims them as docs/protocol.md says. `path` is crowd: its locks end with the
daemon, by design, so it touches nothing that they would protect.
"""

import fcntl
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
from wire import Client, Refused  # noqa: E402

BROKEN = (OSError, EOFError)
LOST = 5
SHUTTING_DOWN = 9


def bears(fd):
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
        return "FLOCK" in f.read()


class Raw:
    def __init__(self, kind, folder, files, seed):
        self.kind, self.folder, self.files = kind, folder, files
        self.rng = random.Random(seed)
        self.ending = False
        self.count = dict.fromkeys(("done", "busy", "timed_out", "cancelled", "deadlock", "reclaimed", "unlocked_before", "resent", "disconnected"), 0)
        self.client = None

    def wrong(self, text):
        line = f"{self.kind}[{os.getpid()}]: {text}\n"
        fd = os.open(f"{self.folder}/wrong", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(fd, line.encode())
        os.close(fd)

    def connect(self):
        while not self.ending:
            try:
                self.client = Client(os.environ["PORTALOCK_SOCKET"])
                self.client.socket.settimeout(20)
                return True
            except OSError:
                time.sleep(0.002)  # it is being restarted by others
        return False

    def reply(self, id):
        """The result, or the code of the error."""
        try:
            return self.client.reply(id)
        except Refused as e:
            return e.code

    # ---- with descriptors ----

    def inside(self, i, exclusive, token):
        with open(f"{self.folder}/{i}.guard", "a+b") as guard:
            try:
                fcntl.lockf(guard, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except OSError:
                self.wrong(f"{i}.lock: two are inside ({'EX' if exclusive else 'SH'})")
            if exclusive:
                with open(f"{self.folder}/{i}.journal", "a+b", buffering=0) as journal:
                    journal.seek(max(0, journal.seek(0, os.SEEK_END) - 256))
                    lines = journal.read().splitlines()
                    number, last = (int(x) for x in lines[-1].split()[:2]) if lines else (0, 0)
                    if token < last:
                        self.wrong(f"{i}.lock: token {token} after {last}")
                    time.sleep(self.rng.random() * 0.003)
                    journal.write(f"{number + 1} {token} {self.kind} {os.getpid()}\n".encode())
            else:
                time.sleep(self.rng.random() * 0.003)
        self.count["done"] += 1

    def ask(self, i, mode, fd, **more):
        """Until there is an answer, over as many daemons as that takes."""
        began = time.monotonic()
        resent = False
        while True:
            try:
                params = dict(more)
                if resent:
                    params["reclaim"] = {"waited_ms": int((time.monotonic() - began) * 1000)}
                    self.count["resent"] += 1
                return self.reply(self.client.start_lock(f"{self.folder}/{i}.lock", mode, fd, **params))
            except BROKEN:
                self.count["disconnected"] += 1
                resent = True
                if not self.connect():
                    return None

    def reclaim(self, i, mode, fd, token):
        """For an unlock that was not answered: the lock is there still, or it was done."""
        while self.connect():
            try:
                result = self.reply(self.client.start_lock(f"{self.folder}/{i}.lock", mode, fd, reclaim={"token": token, "mode": mode}))
            except BROKEN:
                continue
            if result == SHUTTING_DOWN:
                continue  # as good as a broken connection: the next one gives it back
            if result == LOST and not bears(fd):
                self.count["unlocked_before"] += 1
            elif not isinstance(result, dict):
                self.wrong(f"{i}.lock: held, and not given back (code {result})")
            elif result["token"] != token:
                self.wrong(f"{i}.lock: reclaimed {token}, got {result['token']}")
            else:
                self.count["reclaimed"] += 1
            return result if isinstance(result, dict) else None
        return None

    def unlock(self, i, mode, fd, lock, token):
        while lock is not None:
            try:
                self.reply(self.client.send("unlock", {"lock": lock["lock"]}))
                return
            except BROKEN:
                lock = self.reclaim(i, mode, fd, token)

    def once(self):
        i = self.rng.randrange(self.files)
        mode = self.rng.choice(("LOCK_EX", "LOCK_SH"))
        how = self.rng.choice(({}, {}, {"timeout_ms": 20}, {"timeout_ms": 1000}, {"timeout_ms": 0}))
        fd = os.open(f"{self.folder}/{i}.lock", os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            lock = self.ask(i, mode, fd, **how)
            if isinstance(lock, dict):
                self.inside(i, mode == "LOCK_EX", lock["token"])
                self.unlock(i, mode, fd, lock, lock["token"])
            elif lock is not None:
                self.refused(lock)
        finally:
            os.close(fd)

    # ---- by path ----

    def crowd(self):
        try:
            id = self.client.start_lock(
                f"{self.folder}/{self.rng.randrange(self.files)}.lock", self.rng.choice(("LOCK_EX", "LOCK_SH")), handle=self.rng.randrange(2), timeout_ms=500
            )
            if self.rng.random() < 0.2:
                self.client.call("cancel", {"id": id})
            result = self.reply(id)
            if isinstance(result, dict):
                self.count["done"] += 1
                time.sleep(self.rng.random() * 0.003)
                self.client.send("unlock", {"lock": result["lock"]})
            else:
                self.refused(result)
        except BROKEN:
            self.count["disconnected"] += 1
            self.connect()

    def refused(self, code):
        names = {1: "busy", 2: "timed_out", 3: "deadlock", 4: "cancelled", 9: "disconnected"}
        if code not in names:
            self.wrong(f"an unexpected answer: code {code}")
        else:
            self.count[names[code]] += 1

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "ending", True))
        self.connect()
        while not self.ending:
            if self.kind == "fd":
                self.once()
            else:
                self.crowd()
            time.sleep(self.rng.random() * 0.002)
        print(" ".join(f"{k}={v}" for k, v in self.count.items()), flush=True)


Raw(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()
