"""Clients that the door turns away are counted, and an operator hears of them."""

from __future__ import annotations

from starlette.types import Scope


def note(scope: Scope, why: str) -> None:
    """Count one at the hub behind the door, if it counts.

    Args:
        scope: of the request.
        why: in one word.
    """
    state = getattr(scope.get("app"), "state", None)
    counters = getattr(getattr(state, "hub", None), "counters", None)
    if counters is not None:
        counters.refuse(why)
