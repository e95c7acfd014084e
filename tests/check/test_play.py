"""What two episodes differ in, and what grows."""

from __future__ import annotations

import datetime
from typing import Any

import numpy
import pytest

from envhub.check.plain import plain
from envhub.check.play import Episode, Moment, differences
from envhub.check.weigh import growth, steadily
from envhub.wire import arrays


def episode(*answers: dict[str, Any]) -> Episode:
    calls = ["reset", *["step"] * (len(answers) - 1)]
    return Episode(1, [Moment(c, None, a) for c, a in zip(calls, answers, strict=True)])


def test_the_first_moment_that_differs_is_told_with_both_values() -> None:
    one = episode({"a": 1}, {"observation": {"x": [1, 2]}}, {"b": 1})
    other = episode({"a": 1}, {"observation": {"x": [1, 3]}}, {"b": 2})

    assert differences(one, other, ("here", "there")) == (
        "step 1: $.observation.x[1]: `2` here, `3` there",
    )
    assert differences(one, one, ("here", "there")) == ()


def test_one_that_goes_on_is_another() -> None:
    (found,) = differences(episode({}, {}), episode({}), ("here", "there"))

    assert found == "here goes on after 0 steps, and the other does not"


def test_metadata_and_the_client_s_own_id_are_not_compared() -> None:
    one = episode({"metadata": {"took": 1}, "episode_id": "a", "x": True})
    other = episode({"metadata": {"took": 2}, "episode_id": "b", "x": True})

    assert differences(one, other, ("", "")) == ()
    assert differences(one, episode({"x": 1}), ("", "")) != ()  # true is not 1


@pytest.mark.parametrize("dtype", ["<f4", ">i2", "|b1", "|u1", "<f8", "<f2", "<i8"])
def test_an_array_is_the_list_that_json_has(dtype: str) -> None:
    array = numpy.arange(12).astype(dtype).reshape(2, 3, 2)
    untyped = arrays.Array(array.dtype.str, array.shape, array.tobytes())

    assert plain({"a": array}) == plain({"a": untyped}) == {"a": array.tolist()}


def test_a_large_array_is_its_digest_and_compared_with_a_list_by_shape() -> None:
    array = numpy.zeros((200, 100))
    one, same = plain({"o": array}), plain({"o": array.copy()})
    listed, smaller = {"o": array.tolist()}, {"o": array[:, 1:].tolist()}
    array[3, 4] = 1

    assert differences(episode(one), episode(same), ("", "")) == ()
    assert differences(episode(one), episode(plain({"o": array})), ("", "")) != ()
    assert differences(episode(one), episode(listed), ("", "")) == ()
    assert differences(episode(one), episode(smaller), ("", "")) != ()


def test_what_json_has_no_form_for_can_be_compared_all_the_same() -> None:
    value = {"a": b"\xff", "b": float("nan"), 3: datetime.date(2024, 1, 31)}

    assert plain(value) == {"a": "_w==", "b": None, "3": "2024-01-31"}


@pytest.mark.parametrize(
    ("samples", "grows"),
    [
        ([5, 5, 5, 5, 5, 5], False),
        ([5, 6, 7, 8, 9, 10], True),
        ([1, 5, 9, 9, 9, 9, 9, 9, 9], False),  # loaded on first use
        ([1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7], False),  # a cache that is full
        ([5, 6, 5, 6, 5, 6, 5, 6], False),
        ([5, 5, 6, 6, 7, 7, 8, 8], True),
        ([5, 6], False),
    ],
)
def test_what_grows_to_the_end_is_told_from_what_settles(
    samples: list[int], grows: bool
) -> None:
    assert steadily(samples, 0.3) is grows
    assert (growth(samples) > 0) or not grows
