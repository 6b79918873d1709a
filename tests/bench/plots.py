"""The figures as SVG, by gnuplot. Colours: ours blue, peers warm, bare servers grey."""

import os
import re
import shutil
import subprocess

COLOURS = {
    "echo": "#c8c8c8",
    "roofline": "#8c8c8c",
    "relay": "#8c8c8c",
    "flock(2)": "#4d4d4d",
    "portalock by path": "#1f5fb4",
    "portalock by descriptor": "#7db3f0",
    "Redis SET NX": "#c0392b",
    "Redis BLPOP": "#e08e7f",
    "redis-benchmark": "#e08e7f",
    "PostgreSQL": "#e6b422",
    "flock F true": "#e6b422",
    "true": "#c8c8c8",
    "lockctl run F true": "#1f5fb4",
    "lockctl, musl run F true": "#7db3f0",
}

HEAD = """set terminal svg size {width},{height} font "sans-serif,13" background rgb "white"
set output "{out}"
set title "{title}" noenhanced
set ylabel "{ylabel}" noenhanced
set format y "%.0f"
set grid ytics lc rgb "#dddddd"
set border 3
set xtics nomirror noenhanced
set ytics nomirror
set errorbars small front lc rgb "#333333"
set bmargin 4
set key outside right top vertical Left reverse noenhanced samplen 1.5
"""


def bars(rows, groups, contenders, value, low, high):
    """gnuplot's data: a line per group, three columns per contender: the bar and the ends of its whisker. `groups`: {label: scenario}."""
    find = {(r["scenario"], r["who"]): r for r in rows}
    there = [w for w in contenders if any(value in find.get((s, w), {}) for s in groups.values())]
    lines = []
    for label, scenario in groups.items():
        cells = [f'"{label}"']
        for who in there:
            r = find.get((scenario, who), {})
            cells += [f"{r[f][part]:.6g}" for f, part in ((value, "median"), low, high)] if value in r else ["NaN"] * 3
        if set(cells[1:]) - {"NaN"}:
            lines.append(" ".join(cells))
    return there, lines


def bar_plot(folder, name, title, ylabel, rows, groups, contenders, value, low=None, high=None, more=""):
    """Whiskers are min and max of the rounds if not said otherwise. Nothing measured: no plot."""
    there, lines = bars(rows, groups, contenders, value, low or (value, "min"), high or (value, "max"))
    if not lines:
        return None
    plot = ", ".join(f'$d using {3 * i + 2}:{3 * i + 3}:{3 * i + 4}:xtic(1) title "{who}" lc rgb "{COLOURS[who]}"' for i, who in enumerate(there))
    script = (
        HEAD.format(width=900, height=420, out=os.path.join(folder, f"{name}.svg"), title=title, ylabel=ylabel)
        + f"set xrange [-0.7:{len(lines) - 0.3}]\n"
        + "set style data histogram\nset style histogram errorbars gap 1.5 lw 1\nset style fill solid 0.95 border lc rgb 'white'\nset yrange [0:*]\n"
        + more + "\n$d << EOD\n" + "\n".join(lines) + "\nEOD\nplot " + plot + "\n"
    )  # fmt: skip
    return gnuplot(name, script)


def gnuplot(name, script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return name


def scale_plot(folder, rows):
    """Server CPU per pair against an empty daemon, over the number of locks held or of waiters."""
    lines = {}
    for r in rows:
        found = re.match(r"([\d,]+) (locks held|waiters), ?(.*)|([\d,]+) (waiters) (on .*)", r["scenario"])
        if found and "of_empty" in r:
            count, what, where = (g for g in found.groups() if g is not None)
            lines.setdefault(f"{what} {re.sub(r'^on .* files$', 'on many files', where)}", []).append((int(count.replace(",", "")), r["of_empty"]["median"]))
    if not lines:
        return None
    colours = ("#1f5fb4", "#7db3f0", "#c0392b", "#e6b422", "#8c8c8c")
    data = "".join(f"$d{i} << EOD\n" + "\n".join(f"{x} {y:.4f}" for x, y in sorted(points)) + "\nEOD\n" for i, points in enumerate(lines.values()))
    plot = ", ".join(f'$d{i} with linespoints pt 7 lw 2 lc rgb "{colours[i % 5]}" title "{name}"' for i, name in enumerate(lines))
    script = (
        HEAD.format(width=900, height=420, out=os.path.join(folder, "scale.svg"), title="A pair of lock and unlock beside many others", ylabel="server CPU, times that of an empty daemon")
        + "set format y '%.1f'\nset logscale x\nset xlabel 'locks held or requests that wait'\nset format x '%.0f'\nset xrange [800:130000]\nset yrange [0:*]\n"
        + data + "plot " + plot + ", 1.25 with lines dt 2 lc rgb '#999999' title 'target: 1.25'\n"
    )  # fmt: skip
    return gnuplot("scale", script)


def draw(folder, rows):
    """The names of the plots that were drawn."""
    if not shutil.which("gnuplot"):
        return []
    ours = ("portalock by path", "portalock by descriptor")
    clients = {"1 client, same CPU": "1 client, same CPU", "8 clients": "8 clients", "64 clients": "64 clients"}
    everybody = ("echo", "roofline", *ours, "Redis SET NX", "PostgreSQL")
    waiting = {"2 clients,\\nsame CPU": "2 clients, same CPU", "2 clients": "2 clients", "8 wait": "8 wait", "64 wait": "64 wait"}
    run = ("true", "flock F true", "lockctl run F true", "lockctl, musl run F true")
    to_p99 = {"low": ("p50_us", "median"), "high": ("p99_us", "median")}
    log = "set logscale y\nset yrange [1:*]"
    drawn = [
        bar_plot(folder, "pairs", "Lock and unlock of own files", "pairs per second", rows, {k: f"pairs, {v}" for k, v in clients.items()}, everybody, "per_s"),
        bar_plot(folder, "cpu", "Processor time of the server for a pair", "microseconds", rows, {k: f"pairs, {v}" for k, v in clients.items()}, everybody, "server_us"),
        bar_plot(
            folder, "pipelined", "Lock and unlock, 16 requests under way", "requests per second", rows, {k: f"16 pipelined, {v}" for k, v in clients.items()},
            (*everybody, "redis-benchmark"), "requests_s",
        ),
        bar_plot(
            folder, "hand-over", "From the unlock of one to the grant of the next (bar: p50, whisker: up to p99)", "microseconds", rows,
            {k: f"hand-over, {v}" for k, v in waiting.items()}, ("flock(2)", "roofline", *ours, "Redis BLPOP", "Redis SET NX", "PostgreSQL"), "p50_us", **to_p99, more=log,
        ),
        bar_plot(
            folder, "outsider", "From a plain flock(2) program's release to the grant (bar: p50, whisker: up to p99)", "microseconds", rows,
            {"same CPU": "outsider's release, same CPU", "not pinned": "outsider's release"}, ("flock(2)", "relay", *ours), "p50_us", **to_p99, more=log,
        ),
        bar_plot(folder, "commands", "A whole command", "milliseconds", rows, {"one after the other": "whole commands"}, run, "each_ms", more="set format y '%.1f'"),
        bar_plot(folder, "many-commands", "50 processes run 20 commands each on one lock", "milliseconds in all", rows, {"50 x 20": "50 x 20 commands on one lock"}, run, "wall_ms"),
        scale_plot(folder, rows),
    ]  # fmt: skip
    return [name for name in drawn if name]
