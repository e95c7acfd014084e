"""Seeds that the environments of a fresh process go on with, after one was lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


class Seeds:
    """Remembers those that were given.

    What follows a loss follows from them, and from how often there was one: a run can be
    repeated, and does not play the same episodes again after each loss.

    Args:
        size: environments.
        members: processes.
    """

    def __init__(self, size: int, members: int) -> None:
        self._given: list[int | None] = [None] * size
        self._starts = [0] * members

    def give(self, seeds: Sequence[int | None], rows: Iterable[int]) -> None:
        """Note what these environments are reset with; None goes on with what there was."""
        for row in rows:
            if seeds[row] is not None:
                self._given[row] = seeds[row]

    def after_start(self, at: int, rows: slice) -> list[int | None]:
        """Return what a fresh process begins with, where nobody gives a seed.

        Args:
            at: which member's.
            rows: its environments.
        """
        self._starts[at] += 1
        return [
            None if seed is None else _follower(seed, self._starts[at])
            for seed in self._given[rows]
        ]


def _follower(seed: int, after: int) -> int:
    return int(np.random.SeedSequence((seed % 2**64, after)).generate_state(1)[0])
