"""What the figures become to be read: results.md, the table of the README, and what machine it was."""

import datetime
import os
import re
import statistics
import subprocess

from targets import Rows

# figure: (column, digits)
COLUMNS = {
    "per_s": ("per second", 0),
    "requests_s": ("requests per second", 0),
    "p50_us": ("p50 us", 1),
    "p99_us": ("p99 us", 1),
    "p999_us": ("p99.9 us", 1),
    "server_us": ("server CPU us", 2),
    "jain": ("Jain's index", 4),
    "done": ("granted", 0),
    "hold_us": ("a hold, us", 0),
    "p50_holds": ("wait p50, holds", 2),
    "p99_holds": ("wait p99, holds", 2),
    "max_holds": ("longest, holds", 2),
    "each_ms": ("each, ms", 3),
    "wall_ms": ("wall ms", 1),
    "bytes_each": ("bytes each", 0),
    "of_empty": (": empty daemon", 2),
    "kernel_locks": ("kernel's lock taken", 0),
    "kernel_unlocks": ("given up", 0),
    "not_released": ("taken again without", 0),
    "others_max_ms": ("others: longest, ms", 2),
    "others_p99_ms": ("others: p99, ms", 2),
    "server_ms": ("server CPU ms", 1),
    "empty_us": ("empty daemon, us", 2),
    "page_max_ms": ("longest page, ms", 2),
    "pages": ("pages", 0),
    "of_lslocks": ("lslocks's 83 s : it", 0),
    "answered_within_ms": ("answered within, ms", 1),
}
SCALE = "portalock"  # who stands in the rows of scale.py
LESS_IS_BETTER = ("p50_us", "each_ms", "wall_ms")
# The figure that ratios are made of: the first that the scenario has.
LEADING = ("requests_s", "per_s", "each_ms", "wall_ms", "p50_us")
REFERENCES = ("echo", "roofline", "relay", "redis-benchmark", "Redis SET NX", "Redis BLPOP", "PostgreSQL", "flock F true", "flock(2)")


def number(value, digits):
    return f"{value:,.{digits}f}"


def figure(row, name, digits=None):
    v = row.get(name)
    if v is None:
        return "-"
    digits = COLUMNS[name][1] if name in COLUMNS and digits is None else digits or (0 if abs(v["median"]) >= 1000 else 2)
    text = number(v["median"], digits)
    return text if v["min"] == v["max"] else f"{text} ({number(v['min'], digits)}-{number(v['max'], digits)})"


def markdown(head, lines):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(line) + " |" for line in lines)]) + "\n"


def scenarios(rows):
    """Rows by scenario, in the order in which they first came."""
    found = {}
    for r in rows:
        found.setdefault(r["scenario"], []).append(r)
    return found


def leading(scenario, rows):
    if scenario.startswith(("hand-over", "outsider")):
        return "p50_us" if any("p50_us" in r for r in rows) else None
    return next((f for f in LEADING if any(f in r for r in rows)), None)


def columns(rows):
    """The figures that somebody has, those that are known first, as the order of the columns."""
    return [f for f in COLUMNS if any(f in r for r in rows)] + sorted({f for r in rows for f in r} - set(COLUMNS) - {"scenario", "who"})


def title(figure):
    return COLUMNS[figure][0] if figure in COLUMNS else figure.replace("_", " ")


def scenario_table(scenario, rows):
    """A column for each figure that somebody has, and one for each reference that is among them: how many times as much as that one."""
    figures = columns(rows)
    lead = leading(scenario, rows)
    references = [w for w in REFERENCES if lead and len(rows) > 1 and any(r["who"] == w for r in rows)]
    lines = []
    for r in rows:
        ratios = [Rows(rows).ratio(scenario, lead, r["who"], [w]) for w in references]
        lines.append([r["who"], *(figure(r, f) for f in figures), *("-" if v is None else number(statistics.median(v), 2) for v in ratios)])
    head = ["who", *map(title, figures), *(f": {w}" for w in references)]
    note = f" (ratios of {COLUMNS[lead][0]}{', less is better' if lead in LESS_IS_BETTER else ''})" if references else ""
    return f"### {scenario}{note}\n{markdown(head, lines)}"


def target_table(targets):
    lines = []
    for t in targets:
        measured = "not measured" if t["measured"] is None else figure({"v": t["measured"]}, "v", 2 if t["measured"]["median"] < 100 else None)
        lines.append([t["what"], t["target"], measured, {True: "met", False: "**not met**", None: ""}[t["met"]]])
    return markdown(["what", "target", "measured: median (min-max)", ""], lines)


def scale_tables(rows):
    """Of scale.py, which measures portalock alone: a line for each row. What many of something cost, and what others feel of a burden."""
    burdens = [r for r in rows if "others_max_ms" in r]
    parts = []
    for name, some in (("With many locks, sessions or waiters", [r for r in rows if r not in burdens]), ("What others feel meanwhile", burdens)):
        figures = columns(some)
        if some:
            parts.append(f"### {name}\n" + markdown(["what", *map(title, figures)], [[r["scenario"], *(figure(r, f) for f in figures)] for r in some]))
    return parts


def versions(machine):
    return ", ".join(f"{name} {version}" for name, version in machine["versions"].items())


def results(data):
    m = data["machine"]
    parts = [
        "# What was measured\n",
        f"{m['cpu']}, {m['cpus']} CPUs, {m['memory_gib']} GiB, {m['kernel']}; {m['date']}, portalock {m['commit']}; {versions(m)}.",
        f"{data['rounds']} rounds of {data['seconds']} s, all contenders of a scenario in turn, on Unix sockets (etcd: loopback), nobody writes to a disk. Load at the "
        f"start: {m['load']}. Written by `scripts/bench`; every round's figure is in [results.json](results.json).\n",
        "Figures are medians of the rounds (min-max). *same CPU*: clients and server share one processor, which tells what an operation costs in all; otherwise the "
        "scheduler places them. *echo* gives the same bytes back; *roofline* is the least that an honest lock server by path does (`tests/bench/servers.c`); *relay* is a "
        "thread that waits in flock, an eventfd and a socket (`tests/bench/relay.c`). *flock(2)* is the kernel's lock without any server.\n",
        *([f"Not installed, so not measured: {', '.join(data['missing'])}.\n"] if data["missing"] else []),
        "## Targets\n" + target_table(data["targets"]),
        "## Scenarios\n",
        *(f"![{name}]({name}.svg)" for name in data["plots"]),
        "",
        *(scenario_table(s, rows) for s, rows in scenarios([r for r in data["rows"] if r["who"] != SCALE]).items()),
        *scale_tables([r for r in data["rows"] if r["who"] == SCALE]),
    ]
    return "\n".join(parts)


# README: what, figure, scenario, digits, and who stands in which column.
README = (
    ("lock + unlock, pairs/s, 1 client, one CPU", "per_s", "pairs, 1 client, same CPU", 0, "Redis SET NX", "roofline"),
    ("the same, 8 clients", "per_s", "pairs, 8 clients", 0, "Redis SET NX", "roofline"),
    ("the same, 64 clients", "per_s", "pairs, 64 clients", 0, "Redis SET NX", "roofline"),
    ("requests/s, 8 clients with 16 pipelined", "requests_s", "16 pipelined, 8 clients", 0, "redis-benchmark", "roofline"),
    ("server CPU per pair, us", "server_us", "pairs, 1 client, same CPU", 1, "Redis SET NX", "roofline"),
    ("hand-over to the next, p50 us, one CPU", "p50_us", "hand-over, 2 clients, same CPU", 0, "Redis BLPOP", "roofline"),
    ("the same, p99 us", "p99_us", "hand-over, 2 clients, same CPU", 0, "Redis BLPOP", "roofline"),
    ("an outsider's release to the grant, p50 us, one CPU", "p50_us", "outsider's release, same CPU", 0, None, "relay"),
)


def readme(data):
    """portalock's figure, and each peer's with the ratio portalock : peer."""
    rows, m = Rows(data["rows"]), data["machine"]

    def cell(scenario, figure, who, digits):
        theirs = rows.rounds(scenario, who, figure) if who else None
        ratio = theirs and rows.ratio(scenario, figure, "portalock by path", [who])
        return "-" if not theirs else f"{number(statistics.median(theirs), digits)}" + (f" ({number(statistics.median(ratio), 2)})" if ratio and "portalock" not in who else "")

    lines = []
    for what, figure, scenario, digits, redis, bare in README:
        whom = ("portalock by path", "portalock by descriptor", redis, "PostgreSQL", bare, "flock(2)")
        lines.append([what, *(cell(scenario, figure, who, digits) for who in whom)])
    head = ["", "portalock, by path", "by descriptor", "Redis", "PostgreSQL", "bare server", "flock(2), no server"]
    met = [t for t in data["targets"] if t["met"] is not None]
    return (
        f"{markdown(head, lines)}\n"
        f"In brackets: portalock by path : that one. {command_sentence(rows)}\n"
        f"{sum(t['met'] for t in met)} of {len(met)} targets are met. All figures, what is measured and how: [docs/bench](docs/bench/results.md). {m['cpu']}, {m['cpus']} CPUs, "
        f"{m['kernel']}, {m['date'][:10]}; {versions(m)}.\n"
    )


def command_sentence(rows):
    told = []
    for scenario, figure, digits, unit in (("whole commands", "each_ms", 2, " ms"), ("50 x 20 commands on one lock", "wall_ms", 0, " ms for 50 x 20 on one lock")):
        for who in ("flock F true", "lockctl run F true", "lockctl, musl run F true"):
            values = rows.rounds(scenario, who, figure)
            if values:
                told.append(f"`{who.replace(', musl', '')}`{' (static, musl)' * ('musl' in who)} {number(statistics.median(values), digits)}{unit}")
    return f"Whole commands: {', '.join(told)}." if told else ""


def output(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def version(pattern, *argv):
    found = re.search(pattern, output(*argv))
    return found.group(1) if found else None


def read(path, pattern):
    with open(path, encoding="utf-8") as f:
        found = re.search(pattern, f.read(), re.M)
    return found.group(1) if found else "unknown"


def machine(build):
    here = os.path.dirname(os.path.abspath(__file__))
    git = lambda *argv: output("git", "-C", here, *argv)
    python = lambda package: version(r"Version: ([\d.]+)", "dpkg-query", "-W", "-f", "Version: ${Version}", f"python3-{package}")
    found = {
        "Redis": version(r"v=([\d.]+)", "redis-server", "--version"),
        "PostgreSQL": version(r"([\d.]+)", "/usr/lib/postgresql/15/bin/postgres", "--version"),
        "etcd": version(r"etcd Version: ([\d.]+)", "etcd", "--version"),
        "util-linux": version(r"util-linux ([\d.]+)", "flock", "--version"),
        "portalocker": python("portalocker"),
        "filelock": python("filelock"),
        "libuv": version(r"([\d.]+)", "pkg-config", "--modversion", "libuv"),
        "cJSON": version(r"([\d.]+)", "pkg-config", "--modversion", "libcjson"),
        "gcc": version(r"([\d.]+)", "gcc", "-dumpfullversion"),
    }
    return {
        "cpu": read("/proc/cpuinfo", r"^model name\s*: (.*)$"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(read("/proc/meminfo", r"MemTotal:\s+(\d+)")) / 2**20),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
        "load": f"{os.getloadavg()[0]:.2f}",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else ""),
        "build": read(os.path.join(build, "CMakeCache.txt"), r"^CMAKE_BUILD_TYPE:\w+=(.*)$"),
        "versions": {k: v for k, v in found.items() if v},
    }
