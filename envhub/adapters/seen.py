"""The observations of a vector environment: in its processes' memory, and of those it lost."""

from __future__ import annotations

from typing import Any

import numpy as np

from envhub.adapters.packing import Batch
from envhub.adapters.spaces import Views


class Seen:
    """Hands them out.

    Args:
        members: how many processes there are.
        copy: they are the caller's own.

    Attributes:
        views: the memory of each process; None where there is no process.
        leaves: dtype and shape of each array of an observation.
    """

    def __init__(self, members: int, *, copy: bool) -> None:
        self.views: list[Views | None] = [None] * members
        self.leaves: list[tuple[Any, tuple[int, ...]]] = []
        self._copy = copy
        self._last: list[list[Any] | None] = [None] * members  # of those without a process
        self._kept: dict[int, list[Any]] = {}

    def drop(self, at: int) -> None:
        """Keep the last observations of a process that goes."""
        views, self.views[at] = self.views[at], None
        if views is not None and views.has_observed:
            self._last[at] = views.copies()

    def fill(self, batch: Batch) -> None:
        """Have a batch of all processes show what each has seen last."""
        batch.leaves = self._arrays(batch.size)
        for at in batch.parts:
            self.put(at, batch)

    def put(self, at: int, batch: Batch) -> None:
        """Have a batch show what one process has seen last, if it has."""
        views, last = self.views[at], self._last[at]
        if views is not None and views.has_observed:
            if not self._copy and len(batch.parts) == 1 and views.is_plain:
                batch.leaves = views.observations[views.turn]
            else:
                views.put(batch.leaves, batch.parts[at])
        elif last is not None:
            for leaf, rows in zip(batch.leaves, last, strict=True):
                leaf[batch.parts[at]] = rows

    def join(self, views: list[Views], batch: Batch, *, own: bool) -> None:
        """As `fill`, of processes that have all seen something, and with less ado.

        Args:
            views: theirs.
            batch: of these.
            own: it will be written to.
        """
        own = own or self._copy
        if not own and len(views) == 1 and views[0].is_plain:
            batch.leaves = views[0].observations[views[0].turn]
            return
        seen = [each.observations[each.turn] for each in views]
        if own and views[0].is_plain:
            batch.leaves = [np.concatenate(parts) for parts in zip(*seen, strict=True)]
            return
        batch.leaves = self._new_arrays(batch.size) if own else self._arrays(batch.size)
        for part, each in zip(batch.parts.values(), views, strict=True):
            each.put(batch.leaves, part)

    def _new_arrays(self, size: int) -> list[Any]:
        return [np.zeros((size, *shape), dtype) for dtype, shape in self.leaves]

    def _arrays(self, size: int) -> list[Any]:
        """Return arrays for so many; without copies, those of the last time."""
        if not self._copy and size in self._kept:
            return self._kept[size]
        arrays = self._new_arrays(size)
        if not self._copy:
            self._kept[size] = arrays
        return arrays
