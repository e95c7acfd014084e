"""A run as data, as tables in the terminal, and beside an earlier run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import machine

FORMAT = 1
_WORTH_A_WORD = 1.1  # of the earlier median


def read(path: Path) -> dict[str, Any]:
    """Return a run that was written.

    Raises:
        ValueError: the file is none, or of another format.
    """
    run = json.loads(path.read_text())
    if not isinstance(run, dict) or run.get("format") != FORMAT:
        raise ValueError(f"`{path}` is no run of these benchmarks in format {FORMAT}")
    return run


def write(run: dict[str, Any], path: Path) -> None:
    """Write a run as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def print_benchmark(
    console: Console, name: str, found: dict[str, Any], run: dict[str, Any]
) -> None:
    """Print the machine and the figures of one benchmark; in red, what broke."""
    console.print()
    console.rule(f"[bold]{name}[/]  {found['purpose']}", align="left")
    console.print(machine.in_words(run["machine"]), style="dim")
    console.print(in_words(found), style="dim", highlight=False)
    if found["error"]:
        console.print(f"failed: {found['error']}", style="red", markup=False)
    for what, why in found.get("absent", {}).items():  # runs of before have none of these
        console.print(f"{what}: {why}", style="yellow", markup=False, highlight=False)
    if not found["figures"]:
        return
    table = Table("figure", "unit", box=None, pad_edge=False, header_style="dim")
    for column in ("n", "median [min..max]", "p99", "target"):
        table.add_column(column, justify="right")
    for figure in found["figures"]:
        table.add_row(
            figure["name"],
            figure["unit"],
            str(figure["n"]),
            escape(spread(figure)),
            number(figure["p99"]),
            _held_to(figure),
        )
    console.print(table)


def print_comparison(
    console: Console, run: dict[str, Any], earlier: dict[str, Any]
) -> list[str]:
    """Print the ratio of every median to that of an earlier run.

    Returns:
        The figures that are worse: by more than a tenth, and the spreads are apart.
    """
    console.print()
    console.rule(f"[bold]compared[/]  with {earlier['started']}", align="left")
    if run["machine"] != earlier["machine"]:
        console.print(
            f"another machine: {machine.in_words(earlier['machine'])}", style="yellow"
        )
    table = Table("figure", "unit", box=None, pad_edge=False, header_style="dim")
    for column in ("earlier", "now", "now ÷ earlier", "spreads", ""):
        table.add_column(column, justify="right")
    before = {
        (name, figure["name"]): figure
        for name, found in earlier["benchmarks"].items()
        for figure in found["figures"]
    }
    judged: dict[str, list[str]] = {"": [], "better": [], "worse": []}
    for name, found in run["benchmarks"].items():
        for figure in found["figures"]:
            old = before.get((name, figure["name"]))
            if old is not None and old["median"]:
                verdict = _verdict(old, figure)
                judged[verdict].append(f"{name}: {figure['name']}")
                color = {"worse": "red", "better": "green"}.get(verdict, "")
                table.add_row(
                    f"{name}: {figure['name']}",
                    figure["unit"],
                    number(old["median"]),
                    number(figure["median"]),
                    f"{figure['median'] / old['median']:.2f}",
                    "apart" if _are_apart(old, figure) else "overlap",
                    f"[{color}]{verdict}[/]" if color else "",
                )
    console.print(table)
    counts = f"{len(judged['worse'])} worse, {len(judged['better'])} better"
    console.print(f"\n{counts}, {len(judged[''])} as before", highlight=False)
    for name in judged["worse"]:
        console.print(f"worse: {name}", style="red", markup=False, highlight=False)
    return judged["worse"]


def in_words(found: dict[str, Any]) -> str:
    """Return how busy the machine was around a benchmark, as one line."""
    before, after = found["contention"]
    return (
        f"load {found['load']:g}; a fixed piece of work took {before:g} times its best before,"
        f" {after:g} times after; {found['took_s']:g} s in all"
    )


def spread(figure: dict[str, Any]) -> str:
    """Return "median [min..max]"."""
    if figure["n"] == 1:
        return number(figure["median"])
    low, high = number(figure["min"]), number(figure["max"])
    return f"{number(figure['median'])} [{low}..{high}]"


def number(value: float) -> str:
    """Return three significant digits, without an exponent."""
    if value == round(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.1f}"


def target(figure: dict[str, Any]) -> str:
    """Return what the median is held to, such as "≤ 3"; "" for nothing."""
    if figure["target"] is None:
        return ""
    sign = "≥" if figure.get("at_least") else "≤"  # runs of before have none of these
    return f"{sign} {figure['target']:g}"


def _held_to(figure: dict[str, Any]) -> str:
    if figure["target"] is None:
        return ""
    sign = "[green]met[/]" if figure["met"] else "[red]missed[/]"
    return f"{target(figure)} {sign}"


def _are_apart(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Say whether the middle four fifths of both are apart: if not, it may be nothing."""
    return bool(old["p90"] < new["p10"] or new["p90"] < old["p10"])


def _verdict(old: dict[str, Any], new: dict[str, Any]) -> str:
    ratio = new["median"] / old["median"]
    if not _are_apart(old, new) or 1 / _WORTH_A_WORD <= ratio <= _WORTH_A_WORD:
        return ""
    if new["unit"] == "ratio" and new["target"] is None:
        return ""  # which way is better it does not say
    more_is_better = new.get("at_least") or new["unit"].endswith(("/s", "%"))
    return "better" if (ratio > 1) is bool(more_is_better) else "worse"
