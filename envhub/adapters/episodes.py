"""Whose episodes are over, among the environments of several processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from envhub.wire.vector import STEP


class Episodes:
    """Knows whose next step is a reset. At first everybody's is.

    Args:
        rows: which environments are whose, by member.

    Attributes:
        over: by environment.
        counts: how many of each member's are.
    """

    def __init__(self, rows: Sequence[slice]) -> None:
        self.over = np.ones(rows[-1].stop, np.bool_)
        self.counts = [part.stop - part.start for part in rows]
        self._parts = [self.over[part] for part in rows]
        self._bytes = [part.view(np.uint8) for part in self._parts]

    def of(self, at: int) -> Any:
        """Return which of a member's are over; not to be written to."""
        return self._parts[at]

    def are_over(self, whom: Iterable[int]) -> bool:
        """Whether an episode of these members is."""
        return any(self.counts[at] for at in whom)

    def mark(self, at: int, over: Any) -> None:
        """Note which of a member's are over."""
        self._parts[at][:] = over
        self.counts[at] = int(self._parts[at].sum())

    def tell(self, at: int, todo: Any) -> None:
        """Write what a member's environments are to do in a step: STEP, or RESET after it."""
        np.add(self._bytes[at], STEP, todo)

    def follow(self, at: int, over: Any, count: int) -> None:
        """Note which of a member's are over, of which it is known how many they are."""
        self._parts[at][:] = over
        self.counts[at] = count
