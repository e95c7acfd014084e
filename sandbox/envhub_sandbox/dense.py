"""Uses up the holes of the allocators, so that what is made from here on lies side by side.

A heap that has imported a hundred modules has holes on most of its pages. A forked process
that puts its objects there copies a page for each; one whose zygote has filled them begins
on fresh pages, and needs few.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

_HEADER = sys.getsizeof(b"")
# sizes that the interpreter's own allocator serves, then those that it leaves to libc's
_SIZES = (*range(48, 513, 16), *range(544, 1600, 16))
_IN_A_ROW = 8  # so many neighbours are no coincidence
_MOST_BYTES = 8 << 20  # where addresses tell nothing, that is the price of a zygote
_kept: list[bytes] = []


def fill(sizes: Iterable[int] = _SIZES) -> None:
    """Make blocks of each size, and keep them, until they come one behind the other."""
    spent = 0
    for size in sizes:
        row = before = 0
        while row < _IN_A_ROW and spent < _MOST_BYTES:
            block = bytes(size - _HEADER)
            _kept.append(block)
            spent += size
            row = row + 1 if 0 < id(block) - before <= size + 16 else 0
            before = id(block)
