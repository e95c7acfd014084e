"""What bounds a call of the native protocol: what it may carry, and how long it may take."""

from __future__ import annotations

from envhub.errors import InvalidOption
from envhub.wire import native

MARGIN_S = 30.0  # beyond the hub's own deadline for a call
CLOSE_S = 5.0  # likewise, for one that nobody misses
OPEN_S = 600.0  # for a place in the hub's queue, and a worker's start
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
