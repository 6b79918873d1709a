"""
The targets of the project, each a number within one run: a ratio between two contenders, or a figure that has a limit of its own. Here and nowhere else.

A ratio is taken round by round, between measurements that stood beside each other; the median of these is compared with the target.
"""

import re
import statistics
from dataclasses import dataclass
from typing import Callable

PATH, DESCRIPTOR = "portalock by path", "portalock by descriptor"
ONE = "pairs, 1 client, same CPU"


class Rows:
    def __init__(self, rows):
        self.rows = rows

    def rounds(self, scenario, who, figure):
        """Each round's value; None: not measured."""
        for r in self.rows:
            if r["scenario"] == scenario and r["who"] == who and figure in r:
                return r[figure].get("rounds") or [r[figure]["median"]]
        return None

    def ratio(self, scenario, figure, who, others):
        """`who` by the largest of `others`, round by round."""
        ours = self.rounds(scenario, who, figure)
        theirs = [self.rounds(scenario, o, figure) for o in others]
        if ours is None or None in theirs or any(0 in t for t in theirs):
            return None
        return [a / max(t) for a, t in zip(ours, zip(*theirs))]

    def matching(self, pattern, figure):
        """That figure of every row whose scenario begins so: medians."""
        found = [r[figure]["median"] for r in self.rows if re.match(pattern, r["scenario"]) and figure in r]
        return found or None


@dataclass(frozen=True)
class Target:
    what: str
    sign: str  # ">=", "<=", or "" if it is only told
    limit: float
    measure: Callable[[Rows], list]  # each round's ratio or figure; None: not measured
    unit: str = ""
    worst: bool = False  # all of the values must keep to it, not their median

    def judge(self, rows):
        values = self.measure(rows)
        if values is None:
            return {"what": self.what, "target": self.told(), "measured": None, "met": None}
        spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        decisive = (spread["max"] if self.sign == "<=" else spread["min"]) if self.worst else spread["median"]
        met = None if not self.sign else decisive >= self.limit if self.sign == ">=" else decisive <= self.limit
        return {"what": self.what, "target": self.told(), "unit": self.unit, "measured": spread, "met": met}

    def told(self):
        return f"{self.sign} {self.limit:,.2f}".removesuffix(".00") + (f" {self.unit}" if self.unit else "") if self.sign else "told"


def per_s(scenario, who, others):
    return lambda r: r.ratio(scenario, "per_s", who, others)


def figure(scenario, who, name, others):
    return lambda r: r.ratio(scenario, name, who, others)


def pairs():
    for who, named in ((PATH, "by path"), (DESCRIPTOR, "by descriptor")):
        bound = who == PATH
        yield Target(f"pairs/s {named}, 1 client, same CPU : Redis SET NX + compare-and-delete", ">=" * bound, 1.10, per_s(ONE, who, ["Redis SET NX"]))
        yield Target(f"pairs/s {named}, 1 client, same CPU : the best of Redis and PostgreSQL", ">=" * bound, 1.00, per_s(ONE, who, ["Redis SET NX", "PostgreSQL"]))
        yield Target(f"pairs/s {named}, 1 client, same CPU : roofline", ">=" * bound, 0.90, per_s(ONE, who, ["roofline"]))
        yield Target(f"pairs/s {named}, 8 clients : PostgreSQL", ">=" * bound, 0.95, per_s("pairs, 8 clients", who, ["PostgreSQL"]))
        yield Target(f"pairs/s {named}, 64 clients : Redis SET NX + compare-and-delete", ">=" * bound, 1.05, per_s("pairs, 64 clients", who, ["Redis SET NX"]))
        yield Target(
            f"requests/s {named}, 8 clients, 16 pipelined : redis-benchmark -P 16 SET NX", ">=" * bound, 1.2,
            lambda r, who=who: r.ratio("16 pipelined, 8 clients", "requests_s", who, ["redis-benchmark"]),
        )  # fmt: skip
        yield Target(
            f"requests/s {named}, 8 clients, 16 pipelined : the same where every SET NX is refused", "", 0,
            lambda r, who=who: r.ratio("16 pipelined, 8 clients", "requests_s", who, ["redis-benchmark, refused"]),
        )  # fmt: skip
        yield Target(f"server CPU per pair {named} : two echo round trips", "<=" * bound, 2.2, figure(ONE, who, "server_us", ["echo"]))


def queues():
    two = "hand-over, 2 clients, same CPU"
    for who, named in ((PATH, "by path"), (DESCRIPTOR, "by descriptor")):
        bound = "<=" * (who == PATH)
        yield Target(f"hand-over p50 {named}, 2 clients, same CPU : Redis BLPOP", bound, 0.75, figure(two, who, "p50_us", ["Redis BLPOP"]))
        yield Target(f"hand-over p99 {named}, 2 clients, same CPU : Redis BLPOP", bound, 1.0, figure(two, who, "p99_us", ["Redis BLPOP"]))
        yield Target(f"hand-over p50 {named}, 2 clients, not pinned : Redis BLPOP", "", 0, figure("hand-over, 2 clients", who, "p50_us", ["Redis BLPOP"]))
        yield Target(
            f"locks {named} that were handed over without LOCK_UN in between (strace)", "<=", 0,
            lambda r, who=who: r.rounds("hand-over, the kernel's lock (strace)", who, "not_released"),
        )  # fmt: skip
        for pinned in (", same CPU", ""):
            judged = "<=" if who == PATH and pinned else ""
            yield Target(f"outsider's release to grant p50 {named}{pinned or ', not pinned'} : relay", judged, 1.2, figure(f"outsider's release{pinned}", who, "p50_us", ["relay"]))
    yield Target("writer's wait p99 among 8 readers without a gap, in times that they hold", "<=", 2, lambda r: r.rounds("writer among 8 readers", PATH, "p99_holds"))
    yield Target("Jain's index of 8 contenders", "", 0, lambda r: r.rounds("8 contenders that hold 1 ms", PATH, "jain"))


def commands():
    flock = ["flock F true"]
    for who, one, many in (("lockctl", 1.0, 1.0), ("lockctl, musl", 0.70, 0.85)):
        yield Target(f"`{who.split(',')[0]} run F true`{who[7:]}, wall : `flock F true`", "<=", one, figure("whole commands", f"{who} run F true", "each_ms", flock))
        yield Target(f"50 x 20 commands on one lock{who[7:]}, wall : flock(1)", "<=", many, figure("50 x 20 commands on one lock", f"{who} run F true", "wall_ms", flock))


def scale():
    matching = lambda pattern, name: lambda r: r.matching(pattern, name)
    yield Target("server CPU per pair with up to 100,000 locks held : empty daemon", "<=", 1.25, matching(r"[\d,]+ locks held", "of_empty"), worst=True)
    yield Target("server CPU per pair with up to 100,000 waiters : empty daemon", "<=", 1.25, matching(r"[\d,]+ waiters on", "of_empty"), worst=True)
    yield Target("daemon memory per held lock", "<=", 450, matching(r"[\d,]+ locks held", "bytes_each"), "bytes", True)
    yield Target("daemon memory per idle session", "<=", 700, matching(r"[\d,]+ idle sessions", "bytes_each"), "bytes", True)
    yield Target("daemon memory per waiter", "<=", 300, matching(r"[\d,]+ waiters on", "bytes_each"), "bytes", True)
    yield Target("list of 100,000 locks, paged, without outsiders", "<=", 150, matching(r"list of 100,000 locks", "wall_ms"), "ms")
    yield Target("the longest that others wait meanwhile", "<=", 5, matching(r"list of 100,000 locks", "others_max_ms"), "ms")
    yield Target("lslocks with 10,000 locks (83 s) : lockctl list of them", ">=", 1000, matching(r"lockctl list of 10,000", "of_lslocks"))


ALL = [*pairs(), *queues(), *commands(), *scale()]


def judge(rows):
    return [t.judge(Rows(rows)) for t in ALL]
