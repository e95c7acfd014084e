"""The clocks of a session, without a session."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from envhub.errors import DeadlineExceeded, SessionClosed
from envhub.hub.calls.tenure import Tenure
from envhub.hub.environments.manifest import Deadlines
from envhub.wire.messages import Observed

AT_ONCE = 1e-9
OBSERVED = Observed(1, b"")


def opened(**deadlines: float) -> Tenure:
    tenure = Tenure(Deadlines(**deadlines))
    tenure.opened()
    return tenure


def test_a_session_that_is_being_opened_is_not_idle() -> None:
    assert Tenure(Deadlines(idle_s=AT_ONCE)).idle() is None


def test_a_session_under_a_call_is_not_idle() -> None:
    tenure = opened(idle_s=AT_ONCE)
    tenure.begin("step")

    assert tenure.idle() is None
    tenure.end("step")
    assert tenure.idle() is not None


def test_no_call_begins_in_a_session_that_was_found_idle() -> None:
    tenure = opened(idle_s=AT_ONCE)
    tenure.idle()
    with pytest.raises(SessionClosed) as caught:
        tenure.begin("reset")

    assert (caught.value.verdict, caught.value.limit) == ("idle", "idle_s")
    assert not tenure.close()


class Meanwhile:
    """A lock, and what another thread does just before it is taken."""

    def __init__(self, lock: threading.Lock, act: Callable[[], None]) -> None:
        self._lock = lock
        self._act = act

    def __enter__(self) -> None:
        self._act()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_call_that_begins_as_a_session_is_found_idle_is_in_time() -> None:
    tenure = opened(idle_s=AT_ONCE)
    begin: list[Callable[[], None]] = [lambda: tenure.begin("step")]
    tenure._lock = Meanwhile(tenure._lock, lambda: begin.pop()())  # type: ignore[assignment]

    assert tenure.idle() is None
    assert not begin


def test_a_call_waits_for_who_finds_its_session_idle_and_then_knows() -> None:
    tenure = opened(idle_s=AT_ONCE)
    tenure.idle()

    def take_it_back() -> None:
        tenure._idle = None

    tenure._lock = Meanwhile(tenure._lock, take_it_back)  # type: ignore[assignment]
    tenure.begin("step")

    assert tenure.idle() is None


def test_a_session_that_its_owner_has_closed_is_not_idle() -> None:
    tenure = opened(idle_s=AT_ONCE)

    assert tenure.close()
    assert tenure.idle() is None


def test_without_a_limit_nothing_is_ever_idle_or_overdue() -> None:
    tenure = opened()
    tenure.begin("reset")
    tenure.end("reset", OBSERVED)

    assert tenure.idle() is None
    assert tenure.overdue() is None


def test_a_call_ends_with_the_first_of_its_own_deadline_and_the_episodes() -> None:
    tenure = opened(step_s=10, state_s=1, episode_s=5)
    tenure.begin("reset")
    first = tenure.deadline("reset")
    tenure.end("reset", OBSERVED)

    assert (first.reason, first.limit) == ("deadline", "reset_s")
    assert tenure.deadline("step").reason == "episode_deadline"
    assert tenure.deadline("step").limit == "episode_s"
    assert tenure.deadline("state").limit == "state_s"
    assert tenure.deadline("close").limit == "close_s"


@pytest.mark.parametrize(
    "end",
    [
        lambda tenure: tenure.end("step", Observed(2, b"", terminated=True)),
        lambda tenure: tenure.end("step", Observed(2, b"", truncated=True)),
    ],
    ids=["terminated", "truncated"],
)
def test_an_episode_that_has_ended_has_no_deadline(end: object) -> None:
    tenure = opened(episode_s=5)
    tenure.begin("reset")
    tenure.end("reset", OBSERVED)
    tenure.begin("step")
    end(tenure)  # type: ignore[operator]

    assert tenure.deadline("step").reason == "deadline"


def test_an_episode_that_is_over_is_overdue_and_answers_only_a_reset() -> None:
    tenure = opened(episode_s=AT_ONCE)
    tenure.begin("reset")
    tenure.end("reset", OBSERVED)

    assert tenure.overdue() is not None
    for stage in ("step", "state", "step"):
        with pytest.raises(DeadlineExceeded):
            tenure.begin(stage)
    tenure.begin("reset")
    assert tenure.overdue() is None
    tenure.end("reset")
    tenure.begin("step")


def test_a_process_that_is_lost_takes_its_episode_along() -> None:
    tenure = opened(episode_s=600)
    tenure.begin("reset")
    tenure.end("reset", OBSERVED)
    tenure.begin("step")
    tenure.end("step", lost=True)

    assert tenure.deadline("step").reason == "deadline"


def test_an_environment_that_fails_keeps_its_episode() -> None:
    tenure = opened(episode_s=5)
    tenure.begin("reset")
    tenure.end("reset", OBSERVED)
    tenure.begin("step")
    tenure.end("step")

    assert tenure.deadline("step").reason == "episode_deadline"
