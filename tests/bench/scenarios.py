"""What is measured, scenario by scenario. The names of scenarios and contenders are those that targets.py and plots.py look for."""

import os
import shutil

from runs import Contender

PATH = Contender("portalock by path", "portalock", "portalock")
DESCRIPTOR = Contender("portalock by descriptor", "portalock-fd", "portalock")
ECHO = Contender("echo", "echo", "echo")
ROOFLINE = Contender("roofline", "portalock", "roofline")
RELAY = Contender("relay", "portalock", "relay")
FLOCK = Contender("flock(2)", "flock", "none")
SET_NX = Contender("Redis SET NX", "redis", "redis")
BLPOP = Contender("Redis BLPOP", "redis-list", "redis")
POSTGRES = Contender("PostgreSQL", "postgres", "postgres")
ETCD = Contender("etcd", "etcd", "etcd")

FIGURES = {"per_s", "p50_us", "p99_us", "p999_us", "server_us"}
TIMES = {"p50_us", "p99_us", "p999_us"}


def where(pinned):
    return ", same CPU" if pinned else ""


def count(clients):
    return f"{clients} client{'s'[: clients > 1]}"


def pairs(runs):
    """Lock and unlock of files that nobody else wants, one request at a time."""
    everybody = [ECHO, ROOFLINE, PATH, DESCRIPTOR, SET_NX, POSTGRES, FLOCK]
    for clients, pinned in ((1, True), (8, False), (64, False)):
        runs.scenario(f"pairs, {count(clients)}{where(pinned)}", "pairs", everybody, clients, pinned=pinned, keep=FIGURES)


def pipelined(runs):
    """The same with 16 requests under way, 8 locks and 8 unlocks; percentiles are those of the whole 16."""
    for clients, pinned in ((1, True), (8, False), (64, False)):
        depth = 16
        measures = {}
        for c in (ECHO, ROOFLINE, PATH, DESCRIPTOR, SET_NX, POSTGRES):
            if c.server in runs.servers:
                measures[c.who] = lambda c=c, n=clients, p=pinned: requests(runs.load("pairs", c, n, depth, p))
        if "redis" in runs.servers and not pinned:
            measures["redis-benchmark"] = lambda n=clients: runs.redis_benchmark(n, depth)
            measures["redis-benchmark, refused"] = lambda n=clients: runs.redis_benchmark(n, depth, True)
        runs.interleave(f"16 pipelined, {count(clients)}{where(pinned)}", measures, keep=FIGURES | {"requests_s"})


def requests(result):
    result["requests_s"] = 2 * result["per_s"]
    return result


def hand_over(runs):
    """From the unlock of one to the grant of the next."""
    queue = [ROOFLINE, PATH, DESCRIPTOR, BLPOP, SET_NX, POSTGRES, FLOCK]
    for what, clients, pinned in (("2 clients", 2, True), ("2 clients", 2, False), ("8 wait", 9, False), ("64 wait", 65, False)):
        runs.scenario(f"hand-over, {what}{where(pinned)}", "hand-over", queue, clients, pinned=pinned, keep=TIMES)
    if shutil.which("strace"):
        for c in (PATH, DESCRIPTOR):
            runs.interleave("hand-over, the kernel's lock (strace)", {c.who: lambda c=c: runs.kernel_calls(c)}, rounds=1)


def outsider(runs):
    """A program that knows only flock(2) gives the lock up: until the one who waits behind it has it."""
    for pinned in (True, False):
        runs.scenario(f"outsider's release{where(pinned)}", "outsider", [FLOCK, RELAY, PATH, DESCRIPTOR], 2, pinned=pinned, keep={"p50_us", "p99_us"})


def contenders(runs):
    """Eight want one lock all the time and hold it for a millisecond."""
    runs.scenario("8 contenders that hold 1 ms", "same", [ROOFLINE, PATH, DESCRIPTOR, BLPOP, SET_NX, POSTGRES, FLOCK], 8, keep={"per_s", "jain"})


def readers(runs):
    """One writer among eight readers without a gap. Waits are told in times that a reader holds; one that has not ended counts for as long as it lasts."""
    measures = {}
    for c in (PATH, DESCRIPTOR, POSTGRES, FLOCK):
        if c.server in runs.servers:
            measures[c.who] = lambda c=c: in_holds(runs.load("readers", c, 9))
    runs.interleave("writer among 8 readers", measures, keep={"done", "hold_us", "p50_holds", "p99_holds", "max_holds"})


def in_holds(result):
    for part in ("p50", "p99", "max"):
        result[f"{part}_holds"] = result[f"{part}_us"] / result["hold_us"]
    return result


def commands(runs):
    """A command under a lock, from spawn to end: one after the other, and 50 processes with 20 each that all want one lock."""
    file, ours = os.path.join(runs.locks, "command.lock"), {"lockctl": runs.lockctl}
    if runs.lockctl_musl:
        ours["lockctl, musl"] = runs.lockctl_musl
    one = {"true": ["true"], "flock F true": ["flock", file, "true"], **{f"{who} run F true": [path, "run", file, "true"] for who, path in ours.items()}}
    n = max(5, int(150 * runs.seconds))
    runs.interleave("whole commands", {who: lambda argv=argv: runs.command(argv, n) for who, argv in one.items()}, keep={"each_ms"})
    many = {who: argv for who, argv in one.items() if who != "true"}
    processes, times = (50, 20) if not runs.quick else (5, 4)
    runs.interleave("50 x 20 commands on one lock", {who: lambda argv=argv: runs.command(argv, times, processes) for who, argv in many.items()}, keep={"wall_ms"})


def python(runs):
    """Libraries that try again and again."""
    modules = runs.python_modules()
    runs.interleave("pairs, 1 client, same CPU", {f"Python {m}": lambda m=m: runs.python("pairs", m, runs.seconds) for m in modules}, keep=FIGURES)
    runs.interleave("hand-over, 2 clients", {f"Python {m}": lambda m=m: runs.python("hand-over", m, 4 * runs.seconds) for m in modules}, keep=TIMES)


def etcd(runs):
    """By its JSON gateway: slow, so a few short rounds."""
    if "etcd" in runs.servers:
        runs.scenario("pairs, 1 client, same CPU", "pairs", [ETCD], 1, pinned=True, keep=FIGURES, rounds=min(3, runs.rounds))
        runs.scenario("pairs, 8 clients", "pairs", [ETCD], 8, keep=FIGURES, rounds=min(3, runs.rounds))
        runs.scenario("hand-over, 2 clients", "hand-over", [ETCD], 2, keep=TIMES, rounds=min(3, runs.rounds))


def scale(runs):
    """Many locks, sessions, waiters: scale.py has its own daemons."""
    try:
        import scale as many
    except ModuleNotFoundError:
        return
    if runs.quick:
        return  # its smallest run is not quick
    for row in many.run(runs.build, runs.folder):
        figure = lambda v: v if isinstance(v, dict) else {"median": v, "min": v, "max": v}
        runs.rows.append({k: v if k in ("scenario", "who") or isinstance(v, str) else figure(v) for k, v in row.items()})


ALL = {f.__name__.replace("_", "-"): f for f in (pairs, pipelined, hand_over, outsider, contenders, readers, commands, python, etcd, scale)}
