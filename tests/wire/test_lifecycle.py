from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import LocalProtocolError
from envhub.wire.lifecycle import TRANSITIONS, Event, State, after


@given(st.lists(st.sampled_from(Event), max_size=30))
def test_every_history_can_still_end(events: list[Event]) -> None:
    state = State.STARTING
    for event in events:
        if event in TRANSITIONS[state]:
            state = after(state, event)

    assert state is State.DEAD or after(state, Event.ENDED) is State.DEAD


def test_the_dead_stay_dead() -> None:
    assert TRANSITIONS[State.DEAD] == {}


def test_a_busy_process_cannot_be_called() -> None:
    with pytest.raises(LocalProtocolError, match="is busy cannot be called"):
        after(State.BUSY, Event.CALLED)
