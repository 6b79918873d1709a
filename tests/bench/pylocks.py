"""The load for Python's portalocker and filelock, which have no server: they try again and again. Prints what bench_load prints.

  pylocks.py pairs|hand-over portalocker|filelock FOLDER SECONDS
"""

import json
import mmap
import os
import signal
import statistics
import struct
import sys
import time

import filelock
import portalocker


def make(which, path):
    """(lock, unlock), waiting."""
    if which == "filelock":
        lock = filelock.FileLock(path)
        return lock.acquire, lock.release
    lock = portalocker.Lock(path, mode="a", timeout=60)  # with a timeout it polls; without one it is flock(2)
    return lock.acquire, lock.release


def report(times, done, seconds):
    if not times:  # nobody ever got it from another
        print(json.dumps({"done": 0, "seconds": seconds}))
        return
    times = sorted(times)
    at = lambda part: times[min(len(times) - 1, int(part * len(times)))] * 1e6
    figures = {"done": done, "seconds": seconds, "p50_us": statistics.median(times) * 1e6, "p99_us": at(0.99), "p999_us": at(0.999), "max_us": times[-1] * 1e6}
    print(json.dumps(figures))


def pairs(which, folder, seconds):
    lock, unlock = make(which, f"{folder}/python-own.lock")
    times, began = [], time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        lock()
        unlock()
        times.append(time.monotonic() - now)
    report(times, len(times), time.monotonic() - began)


def contend(which, folder, shared, out):
    """For ever: from the moment before another's release to our grant. As in load_modes.c, who has given it up waits until another has it."""
    lock, unlock = make(which, f"{folder}/python-shared.lock")
    while True:
        lock()
        now = time.monotonic()
        (released,) = struct.unpack_from("d", shared)
        if released:
            os.write(out, struct.pack("d", now - released))
        struct.pack_into("d", shared, 0, 0.0)
        time.sleep(0.0004)
        mine = time.monotonic()
        struct.pack_into("d", shared, 0, mine)
        unlock()
        while struct.unpack_from("d", shared)[0] == mine:
            time.sleep(0.0001)


def hand_over(which, folder, seconds):
    shared = mmap.mmap(-1, 8)
    ours, theirs = os.pipe()
    pids = []
    for _ in range(2):
        pids.append(os.fork())
        if pids[-1] == 0:
            contend(which, folder, shared, theirs)
    os.close(theirs)
    time.sleep(seconds)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with os.fdopen(ours, "rb") as f:
        times = [t for (t,) in struct.iter_unpack("d", f.read())]
    report(times, len(times), seconds)


if __name__ == "__main__":
    {"pairs": pairs, "hand-over": hand_over}[sys.argv[1]](sys.argv[2], sys.argv[3], float(sys.argv[4]))
