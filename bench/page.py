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
from bench.goals import GOALS
from bench.plan import REPOSITORY

_PAGE = REPOSITORY / "docs" / "performance.md"
_IMAGES = REPOSITORY / "docs" / "images"
# what draws it, and what a picture that does not stand among the words is called
_PICTURES = {
    "start": (plots.draw_start, ""),
    "memory": (plots.draw_memory, ""),
    "neighbours": (plots.draw_neighbours, ""),
    "remote": (plots.draw_remote, ""),
    "sessions": (plots.draw_sessions, "Rate, p50, p99, processor time and memory by sessions"),
    "cartpole": (plots.draw_cartpole, "Steps in a second of 64 and of 1,024 CartPoles"),
    "soak4096": (plots.draw_soak, "Memory and what else is held, over ten minutes"),
}
_BETWEEN = r"(<!-- {} -->\n)(.*?)(<!-- end -->)"


def main(files: list[str]) -> int:
    """Fill the page; return the exit code."""
    try:
        runs = [report.read(Path(file)) for file in files]
    except (OSError, ValueError) as error:
        print(f"bench.page: {error}", file=sys.stderr)
        return 2
    if any(run["quick"] for run in runs):
        print("bench.page: a run with --quick says nothing", file=sys.stderr)
        return 2
    text = _PAGE.read_text()
    text = _replaced(text, "goals", goals(runs, text))
    text = _replaced(text, "promises", promises(runs, text))
    for run in runs:
        for name, found in run["benchmarks"].items():
            content = table(found, run)
            if name in _PICTURES and found["figures"]:
                draw, called = _PICTURES[name]
                draw(run, _IMAGES / f"{name}.png")
                if called:
                    content = f"![{called}](images/{name}.png)\n\n{content}"
            text = _replaced(text, name, content)
    _PAGE.write_text(text)
    return 0


def goals(runs: list[dict[str, Any]], before: str = "") -> str:
    """Return what was to be reached as a Markdown table; arguments as of `promises`."""
    latest = _latest(runs)
    rows = {tuple(row.split("|")[1:3]): row for row in _rows("goals", before)}
    lines = ["| what | against | measured | to reach | |", "|---|---|---:|---:|---|"]
    for goal in GOALS:
        found = latest.get(goal.benchmark)
        figures = {figure["name"]: figure for figure in found["figures"]} if found else {}
        if (figure := figures.get(goal.figure)) is not None:
            held = report.target(figure) or "reported"
            cells = (goal.what, goal.against, _median(figure), held, _met(figure))
            lines.append(f"| {' | '.join(cells)} |")
        else:
            nothing = f"| {goal.what} | {goal.against} | not measured |  |  |"
            was = rows.get((f" {goal.what} ", f" {goal.against} "), nothing)
            lines.append(nothing if found else was)
    return "\n".join(lines)


def promises(runs: list[dict[str, Any]], before: str = "") -> str:
    """Return every other figure with a target as a table, the last run of each counting.

    Args:
        runs: what was measured.
        before: the page, whose rows stay if they are of a benchmark that is not in the runs.
    """
    latest = _latest(runs)
    above = {f"{goal.benchmark}: {goal.figure}" for goal in GOALS}
    lines = ["| figure | median | target | |", "|---|---:|---:|---|"]
    for row in _rows("promises", before):
        name, _, _ = row.removeprefix("| ").partition(": ")
        if name not in latest and row.split(" | ")[0].removeprefix("| ") not in above:
            lines.append(row)
    for name, found in latest.items():
        for figure in found["figures"]:
            what = f"{name}: {figure['name']}"
            if figure["target"] is not None and what not in above:
                cells = (what, _median(figure), report.target(figure), _met(figure))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _latest(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: found for run in runs for name, found in run["benchmarks"].items()}


def _rows(name: str, before: str) -> list[str]:
    """Return the rows of a table on the page, without its head."""
    found = re.search(_BETWEEN.format(name), before, re.DOTALL)
    lines = found[2].splitlines() if found else []
    return [line for line in lines if line.startswith("| ")][1:]


def _median(figure: dict[str, Any]) -> str:
    unit = "\N{MULTIPLICATION SIGN}" if figure["unit"] == "ratio" else f" {figure['unit']}"
    return f"{report.number(figure['median'])}{unit}"


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
