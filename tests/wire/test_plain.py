from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.wire.plain import MAX_DEPTH, MAX_HASHED, MAX_VALUES, NotPlain, from_json, to_json

hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False, allow_infinity=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
literals = st.recursive(
    hashable,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=3)
    | st.sets(hashable, max_size=3) | st.tuples(inner),
    max_leaves=12,
)  # fmt: skip


def travel(value: object) -> Any:
    return from_json(json.loads(json.dumps(to_json(value))))


@given(literals)
def test_a_plain_literal_arrives_as_it_was(value: object) -> None:
    assert travel(value) == value
    assert repr(type(travel(value))) == repr(type(value))


def test_not_a_number_arrives_as_such() -> None:
    assert math.isnan(travel(math.nan))


class Liar:
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


class LyingInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __index__(self) -> int:
        return 99


class LyingList(list[int]):
    def __eq__(self, other: object) -> bool:
        return True


@pytest.mark.parametrize(
    "value", [Liar(), [Liar()], object(), range(3), lambda: 0, (n for n in [1]), type]
)
def test_what_is_not_a_literal_is_refused(value: object) -> None:
    with pytest.raises(NotPlain):
        to_json(value)


def test_a_subclass_arrives_as_its_plain_kind() -> None:
    assert type(travel(LyingInt(5))) is int
    assert travel(LyingInt(5)) == 5
    assert type(travel(LyingList([1]))) is list
    assert travel(LyingList([1])) != [2]
    assert travel(OrderedDict(a=1)) == {"a": 1}
    assert travel(Counter("aa")) == {"a": 2}


def test_too_deep_too_many_and_too_large_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(MAX_DEPTH + 1):
        deep = [deep]

    for value in (deep, [0] * (MAX_VALUES + 1), 1 << 5000):
        with pytest.raises(NotPlain):
            to_json(value)
        if not isinstance(value, int):
            with pytest.raises(NotPlain):
                from_json(value)


TAGS = st.sampled_from(["t", "s", "d", "b", "c", "f", "z", "x"])
json_values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(TAGS, inner),
)


@given(json_values)
def test_any_json_is_a_literal_or_refused(data: Any) -> None:
    try:
        from_json(data)
    except NotPlain:
        pass


def test_members_that_could_collide_are_few() -> None:
    colliding = [n * (2**61 - 1) for n in range(MAX_HASHED + 1)]  # all of them hash to 0

    with pytest.raises(NotPlain, match="members of sets"):
        from_json({"s": colliding})
    with pytest.raises(NotPlain, match="keys"):
        from_json({"d": [[n, 0] for n in colliding]})
    with pytest.raises(NotPlain, match="members"):
        to_json(set(range(MAX_HASHED + 1)))
