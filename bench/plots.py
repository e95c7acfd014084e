"""The pictures of docs/performance.md, drawn from a run."""

from __future__ import annotations

import random
import statistics
from importlib import import_module
from pathlib import Path
from typing import Any

from bench import machine, neighbours, remote

_INK, _QUIET, _TARGET = "#222222", "#8a8a8a", "#c0392b"
_OURS, _OTHERS = "#1f6fb2", "#9a9a9a"
_COLORS = {"echo": "#1f6fb2", "coding": "#d98200"}
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


def _canvas(width: float, height: float) -> tuple[Any, Any]:
    """Return an empty figure and its axes; matplotlib is an extra, so it loads here."""
    import_module("matplotlib").use("Agg")
    plot, axes = import_module("matplotlib.pyplot").subplots(figsize=(width, height))
    plot.patch.set_facecolor("white")
    return plot, axes


def _finish(plot: Any, axes: Any, title: str, run: dict[str, Any], path: Path) -> None:
    axes.set_title(title, loc="left", fontsize=13, color=_INK, pad=14)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    words = f"{machine.in_words(run['machine'])}\n{run['started'][:10]}, {run['commit']}"
    plot.text(0.01, 0.005, words, fontsize=7.5, color=_QUIET, va="bottom", ha="left")
    plot.tight_layout(rect=(0, 0.055, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=_DPI, bbox_inches="tight", facecolor="white")
    import_module("matplotlib.pyplot").close(plot)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
