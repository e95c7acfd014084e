"""What bounds a call of the native protocol: what it may carry, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from envhub.errors import InvalidOption
from envhub.wire import native

MARGIN_S = 30.0  # beyond the hub's own deadline for a call
CLOSE_S = 5.0  # likewise, for one that nobody misses
OPEN_S = 600.0  # for a place in the hub's queue, and a worker's start
LATE = "the hub has not answered in time"
NOT_OPENED = f"the hub opened no session within {OPEN_S:g} s"
_FRAME_BYTES = 8 * 1024 * 1024  # of requests together, unless a single one is longer
_FIELDS_BYTES = 128  # of a request, beside what it carries
_LONGEST_S = 24 * 3600.0  # where the hub says nothing sensible of a deadline


def allowed_s(opened: native.Opened | None, stage: str, margin_s: float = MARGIN_S) -> float:
    """Return how long to wait for an answer: what the hub says it may take, and more."""
    told = opened.limits.get(f"{stage}_s", 0.0) if opened is not None else 0.0
    return (told if 0 < told < _LONGEST_S else _LONGEST_S) + margin_s


def checked(options: bytes) -> bytes:
    """Return the options.

    Raises:
        InvalidOption: they are over what one request may carry.
    """
    if len(options) > native.MOST_CARRIED_BYTES:
        said = f"options of {len(options)} bytes are over {native.MOST_CARRIED_BYTES}"
        raise InvalidOption(said)
    return options


def framed(
    requests: Iterable[native.Request], group: int = 0, first: int = 0
) -> Iterator[native.Frame]:
    """Return the frames in which these requests travel: one, unless they are too many.

    Args:
        requests: in order.
        group: whose replies wait for each other; 0 for none.
        first: until so many are there.
    """
    together: list[native.Request] = []
    size = 0
    for request in requests:
        weight = _FIELDS_BYTES + native.carried_bytes(request)
        is_full = size + weight > _FRAME_BYTES or len(together) == native.MAX_REQUESTS
        if is_full and together:
            yield native.Frame(group, first, together)
            together, size = [], 0
        together.append(request)
        size += weight
    if together:
        yield native.Frame(group, first, together)
