"""The picture of a soak: what is held after each block of episodes."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

_INK, _QUIET = "#222222", "#8a8a8a"
_MEMORY = (
    ("rss_kib", "hub, resident", "#1f6fb2", "-"),
    ("pss_kib", "hub, its share (PSS)", "#1f6fb2", "--"),
    ("workers_pss", "workers and ready processes together (PSS)", "#d98200", "-"),
    ("own_rss", "client program with an embedded hub, resident", "#8a8a8a", "-"),
)
_COUNTS = (
    ("descriptors", "descriptors of the hub", "#1f6fb2"),
    ("mounts", "mounts that hub and client see", "#9a9a9a"),
    ("own_descriptors", "descriptors of the client program", "#6b4fa0"),
    ("own_processes", "processes in all", "#d98200"),
    ("threads", "threads of the hub", "#2b8a3e"),
    ("zombies", "zombies", "#c0392b"),
    ("control_groups", "control groups", "#c98bb9"),
)
_DPI = 150


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw memory above and counts below, over the number of episodes."""
    import_module("matplotlib").use("Agg")
    pyplot = import_module("matplotlib.pyplot")
    plot, (memory, counts) = pyplot.subplots(2, 1, figsize=(10, 8), sharex=True)
    plot.patch.set_facecolor("white")
    samples = found["samples"]
    episodes = [sample["episodes"] for sample in samples]
    for name, label, color, style in _MEMORY:
        values = [sample[name] / 1024 for sample in samples]
        label = f"{label}: {values[0]:.1f} → {values[-1]:.1f} MiB"
        memory.plot(episodes, values, style, color=color, linewidth=1.6, label=label)
    for name, label, color in _COUNTS:
        values = [sample[name] for sample in samples]
        label = f"{label}: {values[0]:g} → {values[-1]:g}"
        counts.plot(episodes, values, color=color, linewidth=1.6, label=label)
    memory.set_ylabel("MiB")
    counts.set_ylabel("how many")
    counts.set_xlabel("episodes that have been played; at each look nothing is open")
    counts.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for axes in (memory, counts):
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * 1.15)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(axis="both", color="#e6e6e6", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8.5)
    title = f"What {found['episodes']:,} short episodes leave behind"
    memory.set_title(title, loc="left", fontsize=13, color=_INK, pad=14)
    words = (
        f"seed {found['seed']}; {found['took_s']:,.0f} s,"
        f" {found['episodes_per_s']:,.0f} episodes a second"
    )
    plot.text(0.01, 0.005, words, fontsize=7.5, color=_QUIET, va="bottom", ha="left")
    plot.tight_layout(rect=(0, 0.03, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=_DPI, bbox_inches="tight", facecolor="white")
    pyplot.close(plot)
