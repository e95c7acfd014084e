"""`python -m bench [names…] [--json FILE] [--compare FILE] [--quick] [--install] [--page]`.

Without names, all of them but `soak4096`, one after the other. The run is written to
bench/results/ or to FILE; --page, or `python -m bench.page FILE`, puts it into
docs/performance.md. A missed target is a figure and no failure: the exit code is 1 when a
benchmark could not finish, and 3 when, with --compare, some figure is worse than before.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console

from bench import machine, page, report
from bench.figures import Group
from bench.plan import REPOSITORY, Plan

BENCHMARKS = (
    "start",
    "memory",
    "descriptors",
    "steps",
    "vectors",
    "cartpole",
    "actors",
    "imports",
    "churn",
    "kill",
    "neighbours",
    "remote",
    "sessions",
    "storm",
)
BY_NAME_ONLY = ("soak4096",)  # it takes a quarter of an hour
_NAMES = ", ".join((*BENCHMARKS, *BY_NAME_ONLY))
_RESULTS = REPOSITORY / "bench" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in (*BENCHMARKS, *BY_NAME_ONLY):
            parser.error(f"no benchmark `{name}`; there is {_NAMES}")
    if options.page and (options.quick or find_spec("matplotlib") is None):
        parser.error("--page is for whole runs, and wants matplotlib: the extra `bench`")
    try:
        earlier = report.read(options.compare) if options.compare else None
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    plan = Plan(quick=options.quick, install=options.install)
    now = datetime.now(UTC)
    run: dict[str, Any] = {
        "format": report.FORMAT,
        "started": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "quick": plan.quick,
        "machine": machine.describe(),
        "benchmarks": {},
    }
    console = Console(width=None if sys.stdout.isatty() else 140)
    for name in options.names or BENCHMARKS:
        run["benchmarks"][name] = found = _run(name, plan)
        report.print_benchmark(console, name, found, run)
    if plan.quick:
        console.print("\n--quick: too few samples to say anything", style="yellow")
    worse = report.print_comparison(console, run, earlier) if earlier is not None else []
    path = options.json or _RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    report.write(run, path)
    console.print(f"\nwritten to {path}", style="dim")
    if options.page:
        page.main([str(path)])
    if any(found["error"] for found in run["benchmarks"].values()):
        return 1
    return 3 if worse else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure envhub.")
    parser.add_argument("names", nargs="*", metavar="name", help=_NAMES)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the run")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run")
    parser.add_argument("--page", action="store_true", help="put the run on the page, too")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--install", action="store_true", help="install what is compared with")
    return parser


def _run(name: str, plan: Plan) -> dict[str, Any]:
    """Run one benchmark within its deadline; an error is a part of the result."""
    module = import_module(f"bench.{name}")
    gc.collect()
    group, error = Group(), ""
    load, contention = machine.load(), machine.contention()
    start = time.monotonic()

    async def work() -> Group:
        async with asyncio.timeout(module.DEADLINE_S):
            found: Group = await module.run(plan)
            return found

    try:
        group = uvloop.run(work())
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    return {
        "purpose": (module.__doc__ or "").partition("\n")[0],
        "load": load,
        "contention": [contention, machine.contention()],
        "took_s": round(time.monotonic() - start, 1),
        "error": error,
        "figures": [figure.as_dict() for figure in group.figures],
        "series": group.series,
        "absent": group.absent,
    }


def _commit() -> str:
    line = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
