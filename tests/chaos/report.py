"""A run's report, to be read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

_IN_TABLE = ("operations", "right", "wrong", "went on after an answer that was not heard")


def show(console: Console, report: dict[str, Any]) -> None:
    """Print what was done, what was seen, and what is left."""
    console.rule(f"[bold]chaos[/]  seed {report['seed']}", align="left")
    console.print(
        f"{report['sessions']} sessions, {report['minutes']:g} minutes of disturbance,"
        f" {report['took_s']:g} s in all"
    )
    table = Table("programs", box=None, pad_edge=False, header_style="dim")
    for column in ("operations", "right", "typed errors", "wrong", "went on unheard"):
        table.add_column(column, justify="right")
    for name, told in report["programs"].items():
        counts = told["counts"]
        table.add_row(
            name,
            f"{counts.get('operations', 0):,}",
            f"{counts.get('right', 0):,}",
            f"{sum(told['errors'].values()):,}",
            str(counts.get("wrong", 0)),
            str(counts.get("went on after an answer that was not heard", 0)),
        )
    errors = sum(report["errors"].values())
    table.add_row(
        "all", f"{report['operations']:,}", f"{report['right']:,}", f"{errors:,}",
        str(report["wrong"]), style="bold",
    )  # fmt: skip
    console.print(table)
    _counts(console, "the monkey did", report["monkey"])
    _counts(console, "typed errors, by class", report["errors"])
    seen: Counter[str] = Counter()
    for told in report["programs"].values():
        seen.update({k: n for k, n in told["counts"].items() if k not in _IN_TABLE})
    _counts(console, "programs also counted", seen)
    left = Table("held by the hub", box=None, pad_edge=False, header_style="dim")
    for column in ("before", "under load", "after", "may grow by"):
        left.add_column(column, justify="right")
    for name, before in report["before"].items():
        allowed = str(report["allowed"].get(name, "printed"))
        busiest, after = report["busiest"][name], report["after"][name]
        left.add_row(name, f"{before:,}", f"{busiest:,}", f"{after:,}", allowed)
    console.print(left)
    for violation in report["violations"]:
        console.print(f"VIOLATION: {violation}", style="red", markup=False, highlight=False)
    verdict = f"{len(report['violations'])} violation(s)" if report["violations"] else "clean"
    console.print(f"seed {report['seed']}: {verdict}", style="bold")


def _counts(console: Console, title: str, counts: dict[str, int]) -> None:
    table = Table(title, box=None, pad_edge=False, header_style="dim")
    table.add_column("times", justify="right")
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{count:,}")
    console.print(table)
