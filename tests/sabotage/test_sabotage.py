"""Every protection is missed: an attack that fails works as soon as it is gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.sabotage import apart
from tests.sabotage.rows import CLOSED, NO_WALL, ROWS, Row, closed_for
from tests.sabotage.trying import NOT_BUILT, targets, working
from tests.sabotage.verifying import Result, gaps, rows_here, verified, world_of
from tests.sabotage.worlds import WORLDS, Protection, protections


@pytest.fixture(scope="module")
def after() -> Iterator[dict[str, Any]]:
    """What attacks are after."""
    with targets() as found:
        yield found


@pytest.fixture(scope="module")
def results(after: dict[str, Any], found: list[Protection]) -> dict[Row, Result]:
    return verified(rows_here(found), after)


@pytest.fixture(scope="module")
def found() -> list[Protection]:
    return protections()


def test_every_protection_is_missed_by_an_attack_or_it_is_said_why_not(
    found: list[Protection],
) -> None:
    assert gaps(found) == []


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_attack_misses_it(results: dict[Row, Result], row: Row) -> None:
    """It fails without the companions alone, and works without the protection, too."""
    if row not in results:
        pytest.skip("this machine, or this user, does not build it")

    if not results[row].is_possible:
        pytest.skip("not possible on this machine at all")
    assert results[row] == Result(before=False, after=True)


@pytest.mark.parametrize(
    ("protection", "companions"),
    CLOSED.items(),
    ids=CLOSED,
)
def test_without_it_nothing_is_built(
    protection: str,
    companions: tuple[str, ...],
    after: dict[str, Any],
    found: list[Protection],
) -> None:
    holds = closed_for(root=os.geteuid() == 0)
    if protection not in map(str, found) or protection not in holds:
        pytest.skip("this machine, or this user, does not build it")
    world, selector = world_of(protection), protection.rpartition("; ")[2]
    if companions:
        working(world, companions, (), after)

    with pytest.raises(NOT_BUILT):
        working(world, (*companions, selector), ("100 descriptors",), after)


def test_each_is_said_once() -> None:
    named = [*(row.protection for row in ROWS), *CLOSED, *NO_WALL]

    assert sorted(named) == sorted(set(named))


@pytest.mark.skipif(
    os.geteuid() != 0 or not all(world.is_here for world in WORLDS),
    reason="only root, with bubblewrap and Landlock, builds all of them",
)
def test_nothing_is_said_of_what_is_not_built(found: list[Protection]) -> None:
    """But for ways that are opened only where the interpreter is behind a closed one."""
    named = {*(row.protection for row in ROWS), *CLOSED, *NO_WALL} - set(map(str, found))
    closed_ways = ("; fence: mount", "; fence: unshare mount namespace")

    assert [name for name in named if not any(way in name for way in closed_ways)] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be other users")
def test_a_gap_that_is_known_is_still_one() -> None:
    """In tier uid a zygote's end is no signal to its sessions: it may signal no other user.

    Their worker's executioner ends them. With it ended, too, nobody would.
    """
    assert apart.works(world_of("uid; "), (), "outlives its zygote")
    assert not apart.works(world_of("landlock; "), (), "outlives its zygote")
