"""The life of a session process, as a table. Pure: no processes, no clock.

Rule 1: every state and every transition is in this file.
Rule 2: this file does not know how a transition comes about; the exchange feeds it events.

The diagram in docs/architecture.md is printed from TRANSITIONS by `python -m
envhub.wire.lifecycle`, and a test fails when the two differ.
"""

from __future__ import annotations

from enum import Enum

from envhub.errors import LocalProtocolError


class State(Enum):
    """Where a session process is in its life."""

    STARTING = "starting"  # forked; has not said that it is isolated
    READY = "ready"  # isolated; nothing constructed, or between two calls
    BUSY = "busy"  # answering a call
    CLOSING = "closing"  # asked to close; may still answer
    DEAD = "dead"  # ended and reaped

    __hash__ = object.__hash__  # the other one is Python, twice in each step


class Event(Enum):
    """What can happen to a session process."""

    ISOLATED = "isolated"
    CALLED = "called"
    ANSWERED = "answered"
    ASKED_TO_CLOSE = "asked to close"
    ENDED = "ended"

    __hash__ = object.__hash__


TRANSITIONS: dict[State, dict[Event, State]] = {
    State.STARTING: {Event.ISOLATED: State.READY, Event.ENDED: State.DEAD},
    State.READY: {
        Event.CALLED: State.BUSY,
        Event.ASKED_TO_CLOSE: State.CLOSING,
        Event.ENDED: State.DEAD,
    },
    State.BUSY: {Event.ANSWERED: State.READY, Event.ENDED: State.DEAD},
    State.CLOSING: {Event.ANSWERED: State.CLOSING, Event.ENDED: State.DEAD},
    State.DEAD: {},
}


def after(state: State, event: Event) -> State:
    """Return the state that follows `event`.

    Raises:
        LocalProtocolError: the table has no such transition, so the hub has a bug.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise LocalProtocolError(
            f"a session process that is {state.value} cannot be {event.value}"
        ) from None


def following(event: Event) -> dict[State, State]:
    """Return what follows `event`, by state, for those who ask in each step.

    Where it has no state, `after` says why.
    """
    return {state: row[event] for state, row in TRANSITIONS.items() if event in row}


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2"]
    for state, row in TRANSITIONS.items():
        lines += [
            f"    {state.value} --> {to.value}: {event.value}" for event, to in row.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
