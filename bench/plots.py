"""The pictures of docs/performance.md, drawn from a run."""

from __future__ import annotations

import random
import statistics
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from bench import cartpole, machine, neighbours, remote, sessions

_INK, _QUIET, _TARGET = "#222222", "#8a8a8a", "#c0392b"
_OURS, _OTHERS = "#1f6fb2", "#9a9a9a"
_COLORS = {"echo": "#1f6fb2", "coding": "#d98200"}
_SERVERS = {
    sessions.STOCK: "#8a8a8a",
    sessions.FOLDER: "#d98200",
    sessions.ECHO: "#2b8a3e",
    sessions.OURS: "#1f6fb2",
}
_DPI = 150


def draw_start(run: dict[str, Any], path: Path) -> None:
    """Draw every sample of every kind of start, a row each, on a logarithmic axis."""
    figures = [f for f in run["benchmarks"]["start"]["figures"] if "samples" in f]
    figures.sort(key=lambda f: -float(f["median"]))
    plot, axes = _canvas(10, 0.46 * len(figures) + 1.9)
    shake = random.Random(0)
    for row, figure in enumerate(figures):
        samples = figure["samples"]
        color = _OTHERS if figure["note"] == "floor" else _OURS
        heights = [row + shake.uniform(-0.27, 0.27) for _ in samples]
        axes.scatter(samples, heights, s=7, color=color, alpha=0.35, linewidths=0)
        middle = statistics.median(samples)
        axes.plot([middle, middle], [row - 0.38, row + 0.38], color=_INK, linewidth=2)
        words = (
            f"  p50 {_short(middle)} ms   p99 {_short(figure['p99'])} ms   n = {figure['n']}"
        )
        axes.text(
            1.01,
            row,
            words,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=_INK,
        )
    target = next((f["target"] for f in figures if f["target"]), None)
    if target is not None:
        axes.axvline(target, color=_TARGET, linewidth=1, linestyle="--")
        axes.text(
            target,
            len(figures) - 0.35,
            f"  target {target:g} ms (warm zygote, numpy)",
            color=_TARGET,
            fontsize=8.5,
            ha="left",
            va="bottom",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(figures)), [f["name"] for f in figures])
    axes.set_ylim(-0.6, len(figures) + 0.1)
    axes.set_xlabel("milliseconds until ready (logarithmic); grey: processes without envhub")
    _finish(plot, axes, "How long a session waits for its process", run, path)


def draw_memory(run: dict[str, Any], path: Path) -> None:
    """Draw real memory per session over the number of live sessions, a line for each round."""
    found = run["benchmarks"]["memory"]
    plot, axes = _canvas(9, 5.2)
    kinds: dict[tuple[str, str], list[list[tuple[float, float]]]] = {}
    for name, curve in found["series"].items():
        environment, kind, _ = name.split(", ")
        kinds.setdefault((environment, kind), []).append(curve)
    for (environment, kind), curves in kinds.items():
        real = kind == "real"
        color, style = _COLORS.get(environment, _QUIET), "--" if real else "-"
        counts = [count for count, _ in curves[0]]
        middles = [statistics.median(c[at][1] for c in curves) for at in range(len(counts))]
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=color, linewidth=0.8, alpha=0.35)
        what = "real, the kernel's share included" if real else "PSS"
        label = f"{environment}, {what}: {middles[-1]:.2f} MB with {counts[-1]:,.0f} alive"
        marker = "" if real else "o"
        axes.plot(
            counts, middles, style, color=color, linewidth=2, marker=marker, ms=4, label=label
        )
    targets = [f["target"] for f in found["figures"] if f["target"]]
    if targets:
        axes.axhline(
            targets[0],
            color=_TARGET,
            linewidth=1,
            linestyle="--",
            label=f"target {targets[0]:g} MB",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(
        "live sessions, opened and reset (logarithmic); thin lines: the single rounds"
    )
    axes.set_ylabel("MB for each session")
    axes.legend(loc="upper right", frameon=False, fontsize=9, handlelength=3.5)
    _finish(plot, axes, "What an idle session costs in memory", run, path)


def draw_neighbours(run: dict[str, Any], path: Path) -> None:
    """Draw a step's p50 and p99 of every block, a row for what stood beside it."""
    series = run["benchmarks"]["neighbours"]["series"]
    names = sorted(series, key=lambda name: statistics.median(p99 for _, p99 in series[name]))
    names.sort(key=lambda name: name == neighbours.QUIET)
    plot, axes = _canvas(10, 0.46 * len(names) + 1.9)
    for row, name in enumerate(names):
        color = _OTHERS if name == neighbours.QUIET else _OURS
        for values, height in zip(zip(*series[name], strict=True), (0.14, -0.14), strict=True):
            where = [row + height] * len(values)
            axes.scatter(values, where, s=16, color=color, alpha=0.45, linewidths=0)
            middle = statistics.median(values)
            axes.plot([middle] * 2, [row + 2.4 * height, row], color=_INK, linewidth=2)
        p50, p99 = (statistics.median(values) for values in zip(*series[name], strict=True))
        words = f"  p50 {_short(p50)} ms   p99 {_short(p99)} ms"
        across = axes.get_yaxis_transform()
        axes.text(1.01, row, words, transform=across, va="center", fontsize=8.5, color=_INK)
    quiet = statistics.median(p99 for _, p99 in series[neighbours.QUIET])
    target = neighbours.RATIO_TARGET * quiet
    axes.axvline(target, color=_TARGET, linewidth=1, linestyle="--")
    axes.text(
        target,
        len(names) - 0.4,
        f"  {neighbours.RATIO_TARGET:g} times the quiet p99: the target of the mix",
        color=_TARGET,
        fontsize=8.5,
        va="bottom",
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) + 0.1)
    axes.set_xlabel(
        "milliseconds of a neighbour's step (logarithmic); a dot is a block,"
        " above p50, below p99"
    )
    _finish(plot, axes, "What hostile sessions do to their neighbours", run, path)


def draw_remote(run: dict[str, Any], path: Path) -> None:
    """Draw the rate of every round of 64 sessions, a row for each server and client."""
    found = run["benchmarks"]["remote"]
    used = {figure["name"]: figure["median"] for figure in found["figures"]}
    names = [name for name in found["series"] if name.startswith(f"{remote.SESSIONS} ")]
    plot, axes = _canvas(10, 0.46 * len(names) + 1.9)
    for row, name in enumerate(reversed(names)):
        rates = [rate for _, rate in found["series"][name]]
        color = _OTHERS if name.startswith(remote.STOCK) else _OURS
        axes.scatter(rates, [row] * len(rates), s=16, color=color, alpha=0.45, linewidths=0)
        middle = statistics.median(rates)
        axes.plot([middle] * 2, [row - 0.34, row + 0.34], color=_INK, linewidth=2)
        parts = (used.get(remote.processor_time(name, who), 0.0) for who in remote.PROGRAMS)
        words = f"  {middle:,.0f} steps/s;  {' + '.join(f'{part:.0f}' for part in parts)} µs"
        across = axes.get_yaxis_transform()
        axes.text(1.01, row, words, transform=across, va="center", fontsize=8.5, color=_INK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_yticks(range(len(names)), [name.partition(", ")[2] for name in reversed(names)])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(
        "steps in a second, a dot for each round; on the right processor time of a step: of"
        " the server,\nthe sessions' processes and the client"
    )
    title = f"{remote.SESSIONS} sessions of a server, stepped as fast as they go"
    _finish(plot, axes, title, run, path)


def draw_sessions(run: dict[str, Any], path: Path) -> None:
    """Draw what grows with the number of sessions, a line for each server and client."""
    series = run["benchmarks"]["sessions"]["series"]
    pictures = {
        "steps in a second": (sessions.RATE,),
        "milliseconds of a step: p50, and p99 thin": (sessions.P50, sessions.P99),
        "µs of processor for a step, of the server's side": (sessions.PROCESSOR,),
        "MB for each session, of the server's side": (sessions.MEMORY,),
    }
    plot, grid = _canvas(11, 8.4, 2, 2)
    for axes, (label, whats) in zip(grid.flat, pictures.items(), strict=True):
        for (name, color), what in product(_SERVERS.items(), whats):
            thin = what == sessions.P99
            axes.plot(
                *zip(*series[f"{what}: {name}"], strict=True),
                color=color,
                linewidth=0.9 if thin else 2,
                marker="" if thin else "o",
                ms=4,
                label="" if thin else name,
            )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sessions.NUMBERS, [f"{number:,}" for number in sessions.NUMBERS])
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.set_ylabel(label)
        axes.set_xlabel("sessions at once")
        _quiet(axes)
    grid[0][0].legend(loc="lower right", frameon=False, fontsize=8)
    _finish(plot, grid[0][0], "As sessions become more", run, path)


def draw_cartpole(run: dict[str, Any], path: Path) -> None:
    """Draw the rate of every turn, a row for each way to have many environments."""
    found = run["benchmarks"]["cartpole"]
    plot, grid = _canvas(11, 0.42 * len(cartpole.WAYS) + 2.2, 1, len(cartpole.SIZES))
    for axes, size in zip(grid.flat, cartpole.SIZES, strict=True):
        start = f"CartPole, {size:,} at once, "
        rates = {f["name"].removeprefix(start): f for f in found["figures"] if "samples" in f
                 and f["name"].startswith(start)}  # fmt: skip
        names = sorted(rates, key=lambda name: float(rates[name]["median"]))
        for row, name in enumerate(names):
            samples = rates[name]["samples"]
            color = _OURS if name.startswith("envhub") else _OTHERS
            axes.scatter(samples, [row] * len(samples), s=16, color=color, alpha=0.45, lw=0)
            middle = statistics.median(samples)
            axes.plot([middle] * 2, [row - 0.3, row + 0.3], color=_INK, linewidth=2)
            axes.text(middle, row + 0.36, f"{middle:,.0f}", fontsize=7.5, ha="center")
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), names, fontsize=8.5)
        axes.set_ylim(-0.6, len(names) - 0.2)
        axes.set_xlabel(f"steps in a second, {size:,} at once (logarithmic)")
        _quiet(axes)
    _finish(plot, grid.flat[0], "Many CartPoles, in everybody's way", run, path)


def draw_soak(run: dict[str, Any], path: Path) -> None:
    """Draw memory, and what else is held, over the time of the soak."""
    series = run["benchmarks"]["soak4096"]["series"]
    plot, grid = _canvas(10, 7.6, 2, 1)
    memory = {"hub_mb": "the hub (PSS)", "client_mb": "the client program (PSS)",
              "sessions_mb": "the sessions' processes, all (PSS)"}  # fmt: skip
    counts = {name: name for name in ("descriptors", "processes", "threads")}
    for axes, names in zip(grid.flat, (memory, counts), strict=True):
        for (name, label), color in zip(names.items(), (_OURS, _QUIET, "#d98200"), strict=True):
            curve, last = series[name], series[f"{name}, at last"]
            ends = f"{curve[0][1]:,.0f} before, {last[0][1]:,.0f} after"
            axes.plot(*zip(*curve, strict=True), color=color, lw=1.8,
                      label=f"{label}: {ends}")  # fmt: skip
            axes.scatter(*zip(*last, strict=True), color=color, s=28)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=8.5)
        _quiet(axes)
    grid.flat[0].set_ylabel("MB (logarithmic)")
    grid.flat[1].set_ylabel("of the server, how many")
    grid.flat[1].set_xlabel("seconds of stepping; a dot: after all sessions were closed")
    _finish(plot, grid.flat[0], "4,096 sessions that step", run, path)


def _canvas(width: float, height: float, *grid: int) -> tuple[Any, Any]:
    """Return an empty figure and its axes; matplotlib is an extra, so it loads here."""
    import_module("matplotlib").use("Agg")
    plot, axes = import_module("matplotlib.pyplot").subplots(*grid, figsize=(width, height))
    plot.patch.set_facecolor("white")
    return plot, axes


def _finish(plot: Any, axes: Any, title: str, run: dict[str, Any], path: Path) -> None:
    axes.set_title(title, loc="left", fontsize=13, color=_INK, pad=14)
    _quiet(axes)
    words = f"{machine.in_words(run['machine'])}\n{run['started'][:10]}, {run['commit']}"
    plot.text(0.01, 0.005, words, fontsize=7.5, color=_QUIET, va="bottom", ha="left")
    plot.tight_layout(rect=(0, 0.055, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=_DPI, bbox_inches="tight", facecolor="white")
    import_module("matplotlib.pyplot").close(plot)


def _quiet(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
