"""The same frames to OpenEnv's own server and to envhub: the same bytes come back."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path

import pytest

from envhub.errors import BuildFailed
from envhub.hub.environments import build, openenv
from tests.differential import script
from tests.differential.account import ACCOUNT
from tests.differential.differences import DIFFERENCES, Difference
from tests.differential.masks import masked
from tests.differential.plays import PLAYS
from tests.differential.replay import Reply, play
from tests.differential.servers import ours, stock

pytestmark = [pytest.mark.openenv, pytest.mark.timeout(900)]


@pytest.fixture
def folder(environment: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the environment's folder: the stock server may write into it."""
    try:
        build.python_for(openenv.read(environment))
    except BuildFailed as error:
        why = f"cannot be built: {str(error).splitlines()[-1]} {error.hint}"
        request.config.stash[ACCOUNT].not_run[environment.name] = why
        pytest.skip(why)
    leave_out = shutil.ignore_patterns("__pycache__", ".git", ".venv")
    shutil.copytree(environment, tmp_path / "envs" / environment.name, ignore=leave_out)
    return tmp_path / "envs" / environment.name


def test_every_reply_is_the_same_but_for_what_is_declared(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    played = PLAYS[folder.name]
    with (
        stock(folder, tmp_path, played.variables) as theirs_at,
        ours(folder, played.variables) as ours_at,
        ThreadPoolExecutor(2) as both,
    ):
        talks = script.talks(played, _name(theirs_at))
        theirs, mine = both.map(lambda address: play(address, talks), (theirs_at, ours_at))
    declared = [each for each in DIFFERENCES if each.is_of(folder.name)]
    theirs, used = masked(theirs, played.masks, [str(folder)])
    mine, used_too = masked(mine, played.masks, [f"/app/envs/{folder.name}", "/app/env"])
    undeclared, occurred = compare(theirs, mine, declared)
    compared = request.config.stash[ACCOUNT].compared
    compared[folder.name] = (len(theirs), sum(occurred.values()))

    assert not undeclared, f"{len(undeclared)} undeclared:\n\n" + "\n\n".join(undeclared)
    unneeded = [each.name for each in declared if each.name not in occurred]
    assert not unneeded, f"declared for {folder.name}, and not so any more: {unneeded}"
    idle = set(played.masks) - used - used_too
    assert not idle, f"masks that hide nothing: {idle}"


def compare(
    theirs: list[Reply], mine: list[Reply], declared: list[Difference]
) -> tuple[list[str], Counter[str]]:
    """Return the differences that nobody declared, for people, and how often which occurred."""
    undeclared: list[str] = []
    occurred: Counter[str] = Counter()
    nothing = Reply("", "no move", "no reply")
    for their, my in zip_longest(theirs, mine, fillvalue=nothing):
        if their.text == my.text:
            continue
        found = [each for each in declared if each.allows(their.label, their.text, my.text)]
        if found:
            occurred[found[0].name] += 1
        else:
            where = _first_difference(their.text, my.text)
            undeclared.append(
                f"{their.label}\n  stock: {_around(their.text, where)}"
                f"\n  ours:  {_around(my.text, where)}"
            )
    return undeclared, occurred


def _first_difference(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _around(text: str, where: int) -> str:
    begin = max(0, where - 300)
    return ("…" if begin else "") + text[begin : where + 300]


def _name(address: str) -> str:
    """Return what the author's app calls the environment: the path of its tasks."""
    with urllib.request.urlopen(f"{address}/list_environments", timeout=60) as reply:
        found: str = json.load(reply)[0]
        return found
