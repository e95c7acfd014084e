"""`python -m bench.page FILE…`: put runs into docs/performance.md and docs/images/.

Only what stands between `<!-- NAME -->` and `<!-- end -->` is replaced; the words around it
are people's. Of a benchmark that several files have, the last one counts; of one that none
has, what is on the page stays.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from bench import machine, plots, report
from bench.plan import REPOSITORY

_PAGE = REPOSITORY / "docs" / "performance.md"
_IMAGES = REPOSITORY / "docs" / "images"
_BETWEEN = r"(<!-- {} -->\n)(.*?)(<!-- end -->)"


def main(files: list[str]) -> int:
    """Fill the page; return the exit code."""
    try:
        runs = [report.read(Path(file)) for file in files]
    except (OSError, ValueError) as error:
        print(f"bench.page: {error}", file=sys.stderr)
        return 2
    text = _PAGE.read_text()
    text = _replaced(text, "promises", promises(runs, text))
    for run in runs:
        for name, found in run["benchmarks"].items():
            text = _replaced(text, name, table(found, run))
        if run["benchmarks"].get("start", {}).get("figures"):
            plots.draw_start(run, _IMAGES / "start.png")
        if run["benchmarks"].get("memory", {}).get("figures"):
            plots.draw_memory(run, _IMAGES / "memory.png")
        if run["benchmarks"].get("neighbours", {}).get("figures"):
            plots.draw_neighbours(run, _IMAGES / "neighbours.png")
        if run["benchmarks"].get("remote", {}).get("figures"):
            plots.draw_remote(run, _IMAGES / "remote.png")
    _PAGE.write_text(text)
    return 0


def promises(runs: list[dict[str, Any]], before: str = "") -> str:
    """Return every figure with a target as a Markdown table, the last run of each counting.

    Args:
        runs: what was measured.
        before: the page, whose rows stay if they are of a benchmark that is not in the runs.
    """
    latest = {name: found for run in runs for name, found in run["benchmarks"].items()}
    lines = ["| figure | median | target | |", "|---|---:|---:|---|"]
    rows = re.search(_BETWEEN.format("promises"), before, re.DOTALL)
    for row in rows[2].splitlines() if rows else ():
        name, is_row, _ = row.removeprefix("| ").partition(": ")
        if is_row and name not in latest:
            lines.append(row)
    for name, found in latest.items():
        for figure in found["figures"]:
            if figure["target"] is not None:
                what, unit = f"{name}: {figure['name']}", figure["unit"]
                median = f"{report.number(figure['median'])} {unit}".strip()
                lines.append(
                    f"| {what} | {median} | {report.target(figure)} | {_met(figure)} |"
                )
    return "\n".join(lines)


def table(found: dict[str, Any], run: dict[str, Any]) -> str:
    """Return one benchmark as a Markdown table, with its machine above it."""
    lines = [
        f"{machine.in_words(run['machine'])}.",
        f"{run['started'][:16].replace('T', ' ')} UTC, commit {run['commit']}.",
        f"{report.in_words(found)}.",
        *(f"{what}: {why}." for what, why in found.get("absent", {}).items()),
        "",
        "| figure | unit | n | median [min..max] | p99 | target | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for figure in found["figures"]:
        cells = (
            "; ".join(filter(None, (figure["name"], figure["note"]))),
            figure["unit"],
            str(figure["n"]),
            report.spread(figure),
            report.number(figure["p99"]),
            report.target(figure),
            _met(figure),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _met(figure: dict[str, Any]) -> str:
    return {None: "", True: "met", False: "**missed**"}[figure["met"]]


def _replaced(text: str, name: str, content: str) -> str:
    pattern = re.compile(_BETWEEN.format(name), re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n\n{found[3]}", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
