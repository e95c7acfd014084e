"""Verify rows: a protection, its companions, and the attack that then works."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from tests.sabotage import apart
from tests.sabotage.ends import ENDS
from tests.sabotage.rows import CLOSED, NO_WALL, ROWS, Row
from tests.sabotage.trying import AT_IMPORT, BY_NAME, NOT_BUILT, is_possible, working
from tests.sabotage.worlds import WORLDS, Protection, World

_IS_ROOT = os.geteuid() == 0


def world_of(protection: str) -> World:
    """Return the world that a protection's name begins with."""
    name, _, _ = protection.rpartition("; ")
    (world,) = [world for world in WORLDS if world.name == name]
    return world


def rows_here(found: Iterable[Protection]) -> list[Row]:
    """Return the rows of protections that are built on this machine, for this user."""
    built = {str(protection) for protection in found}
    return [row for row in ROWS if row.protection in built and (not row.needs_root or _IS_ROOT)]


def gaps(found: Iterable[Protection]) -> list[str]:
    """Return the protections that nobody has said a word about."""
    known = {*(row.protection for row in ROWS), *CLOSED, *NO_WALL}
    return [str(protection) for protection in found if str(protection) not in known]


@dataclass(frozen=True)
class Result:
    """What became of a row's attack; None where nothing could be built.

    Args:
        before: without the companions alone.
        after: without the protection, too.
        is_possible: False where this machine stops it without any of us.
    """

    before: bool | None
    after: bool | None
    is_possible: bool = True

    @property
    def holds(self) -> bool:
        """Whether the protection was missed, and nothing else."""
        return self.before is False and (self.after is True or not self.is_possible)


def verified(rows: Sequence[Row], targets: dict[str, Any]) -> dict[Row, Result]:
    """Try rows, on every processor. Those that share companions share what was before.

    Args:
        rows: all of them.
        targets: what attacks are after.
    """
    sharing: dict[_Before, list[Row]] = defaultdict(list)
    for row in rows:
        sharing[_before(row)].append(row)
    tasks = [(before, tuple(same), targets) for before, same in sharing.items()]
    tasks.sort(key=lambda task: -len(task[1]))
    # the largest have no companions; in parts, or one processor would be left with it
    parts = [
        (before, same[at : at + _PART], targets)
        for before, same, _ in tasks
        for at in range(0, len(same), _PART)
    ]
    found: dict[Row, Result] = {}
    with get_context("fork").Pool() as pool:
        for results in pool.imap_unordered(_tried, parts):
            found.update(results)
    return found


_PART = 16
_OPTIONAL = {
    f"{where}{name}"
    for name, attack in BY_NAME.items()
    for where in ("", AT_IMPORT)
    if attack.optional
}
_Before = tuple[str, tuple[str, ...], str]  # world, companions, and the attack if it is apart


def _before(row: Row) -> _Before:
    return _world(row).name, row.companions, row.attack if row.attack in ENDS else ""


def _tried(task: tuple[_Before, Sequence[Row], dict[str, Any]]) -> dict[Row, Result]:
    (name, companions, _), rows, targets = task
    (world,) = [world for world in WORLDS if world.name == name]
    worked = _working(world, companions, sorted({row.attack for row in rows}), targets)
    found = {}
    for row in rows:
        left_out = (*companions, row.protection.rpartition("; ")[2])
        after = _working(world, left_out, [row.attack], targets)
        found[row] = Result(
            None if worked is None else row.attack in worked,
            None if after is None else row.attack in after,
            bool(after) or row.attack not in _OPTIONAL or is_possible(row.attack, targets),
        )
    return found


def _working(
    world: World, left_out: tuple[str, ...], names: list[str], targets: dict[str, Any]
) -> set[str] | None:
    """Return which work; None where nothing can be built. What is apart is so alone."""
    if names[0] in ENDS:
        worked = apart.works(world, left_out, names[0])
        return None if worked is None else set(names if worked else ())
    try:
        return working(world, left_out, names, targets)
    except NOT_BUILT:
        return None


def _world(row: Row) -> World:
    return world_of(f"{row.world}; " if row.world else row.protection)
