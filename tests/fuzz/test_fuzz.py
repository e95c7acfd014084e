"""A little fuzzing in every run of the suite; `python -m tests.fuzz` does it for hours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tests.fuzz.arena import Arena
from tests.fuzz.cases import Case
from tests.fuzz.known import known
from tests.fuzz.play import play

# a smaller case is looked for by the long mode: here it would cost a minute
FEW = settings(
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize(
    ("made", "count"), [(strategies.sessions, 120), (strategies.zygotes, 3)]
)
def test_whatever_is_said_ends_as_the_protocol_says_and_harms_nobody(
    made: Callable[[], st.SearchStrategy[Case]], count: int
) -> None:
    arena = Arena(settle_s=5.5)  # the hub itself waits 5 s for a word on an end

    @settings(FEW, max_examples=count)
    @given(made())
    def attack(case: Case) -> None:
        played = play(arena, case)
        assert known(played) or played.complaints == []

    try:
        attack()
    finally:
        left = arena.close()

    assert left == []
