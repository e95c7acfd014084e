"""Gymnasium's spaces: what their schemas say, which actions fit, what is sent of a value."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import Space
from gymnasium import spaces as kinds

from envhub import spaces
from envhub.authoring.schema import decode_native, encode_native
from envhub.check import schema as json_schema
from envhub.check.actions import Actions
from envhub.check.plain import plain
from envhub.errors import InvalidAction, UsageError

UNEVEN = kinds.Box(np.array([-1, 0], np.float32), np.array([0.1, np.inf], np.float32))
IMAGE = kinds.Box(0, 255, (20, 30, 3), np.uint8)
KNOWN: list[Space[Any]] = [
    kinds.Discrete(4),
    kinds.Discrete(3, start=-1),
    kinds.Box(-2.0, 2.0, (1,), np.float32),
    kinds.Box(-1, 1, (), np.float64),
    kinds.Box(0, 1, (0,), np.float32),
    UNEVEN,
    IMAGE,
    kinds.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    kinds.MultiDiscrete([2, 3]),
    kinds.MultiDiscrete(np.array([[2, 3], [4, 5]]), start=np.array([[0, 1], [2, 3]])),
    kinds.MultiBinary(3),
    kinds.MultiBinary([2, 2]),
    kinds.Text(5),
    kinds.Text(4, min_length=2, charset="a]^-\\z"),
    kinds.Tuple([kinds.Discrete(2), UNEVEN]),
    kinds.Dict({"a": kinds.Discrete(2), "b": kinds.Dict({"c": UNEVEN})}),
    kinds.Sequence(kinds.Discrete(3)),
    kinds.OneOf([kinds.Discrete(2), kinds.Box(0, 1, (2,))]),
]


def sent(value: Any) -> Any:
    """What a worker gets of an action: as it is after MessagePack."""
    return decode_native(encode_native(value))


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return bool(one == other)


@pytest.mark.parametrize("space", KNOWN, ids=str)
def test_what_a_space_samples_is_loaded_from_both_forms_and_fits_its_schema(
    space: Space[Any],
) -> None:
    space.seed(1)
    said = spaces.schema(space)

    assert json_schema.flaws(said) == []
    assert spaces.unknown(space) == ""
    for _ in range(20):
        value = space.sample()
        dumped = spaces.dump(space, value)
        as_json = json.loads(json.dumps(plain(dumped)))

        assert json_schema.misfits(as_json, said) == []
        for came in (sent(dumped), as_json):
            loaded = spaces.load(space, came)
            assert space.contains(loaded)
            assert same(loaded, value)


@pytest.mark.parametrize("space", KNOWN, ids=str)
def test_what_fits_the_schema_is_in_the_space(space: Space[Any]) -> None:
    if isinstance(space, kinds.Text) and space.min_length:
        pytest.skip("no action can be made of such a pattern")
    actions = Actions(spaces.schema(space), seed=2)

    for step in range(20):
        assert space.contains(spaces.load(space, actions.at(step)))


@pytest.mark.parametrize(
    ("space", "value", "message"),
    [
        (kinds.Discrete(2), 2, "expected 0 to 1, got 2 - at `$`"),
        (kinds.Discrete(2), -1, "expected 0 to 1, got -1 - at `$`"),
        (kinds.Discrete(2), True, "expected a whole number from 0 to 1, got True - at `$`"),
        (kinds.Discrete(2), 1.0, "expected a whole number from 0 to 1, got 1.0 - at `$`"),
        (kinds.Discrete(2), None, "expected a whole number from 0 to 1, got None - at `$`"),
        (kinds.Discrete(2), 2**70, f"expected 0 to 1, got {2**70} - at `$`"),
        (
            kinds.Discrete(2),
            np.array([1]),
            "expected a whole number from 0 to 1, got an array of int64 - at `$`",
        ),
        (UNEVEN, [0.0], "expected the shape (2,), got (1,) - at `$`"),
        (UNEVEN, [0.0, -0.5], "expected 0.0 to inf, got -0.5 - at `$[1]`"),
        (UNEVEN, [float("nan"), 1.0], "got nan - at `$[0]`"),
        (UNEVEN, [0.0, 1e300], "got inf - at `$[1]`"),
        (UNEVEN, [0.0, True], "expected numbers, got [0.0, True] - at `$[1]`"),
        (UNEVEN, ["0", "1"], "expected numbers, got ['0', '1'] - at `$`"),
        (UNEVEN, [[1], [1, 2]], "expected the shape (2,), got [[1], [1, 2]] - at `$`"),
        (UNEVEN, {"a": 1}, "expected numbers, got {'a': 1} - at `$`"),
        (kinds.Box(-1, 1, ()), 1.5, "expected -1.0 to 1.0, got 1.5 - at `$`"),
        (IMAGE, np.full((20, 30, 3), 300), "expected 0 to 255, got 300 - at `$[0][0][0]`"),
        (IMAGE, np.zeros((20, 30, 3)), "expected whole numbers, got an array of float64"),
        (kinds.MultiDiscrete([2, 3]), [1, 3], "expected 0 to 2, got 3 - at `$[1]`"),
        (kinds.MultiDiscrete([2, 3]), [2**70, 0], "expected whole numbers"),
        (kinds.MultiBinary(2), [0, 2], "expected 0 to 1, got 2 - at `$[1]`"),
        (kinds.MultiBinary(2), np.array([True, False]), "expected whole numbers"),
        (kinds.Text(3), "abcd", "expected 1 to 3 characters, got 'abcd' - at `$`"),
        (kinds.Text(3), "a-", "'-' is not in its charset, got 'a-' - at `$`"),
        (kinds.Text(3), 1, "expected a text, got 1 - at `$`"),
        (KNOWN[14], [0], "expected 2 items, got 1 - at `$`"),
        (KNOWN[14], [0, [0.0, -1]], "expected 0.0 to inf, got -1.0 - at `$[1][1]`"),
        (KNOWN[15], {"a": 0, "b": {}}, "a field is missing, got {} - at `$.b.c`"),
        (KNOWN[15], {"a": 0, "b": {"c": [0, 0]}, "d": 1}, "no field 'd'; there is a, b"),
        (KNOWN[15], {"a": 3, "b": {"c": [0, 0]}}, "expected 0 to 1, got 3 - at `$.a`"),
        (KNOWN[15], 0, "expected a mapping, got 0 - at `$`"),
        (KNOWN[16], [0, 1, 3], "expected 0 to 2, got 3 - at `$[2]`"),
        (KNOWN[17], [2, 0], "expected 0 to 1, got 2 - at `$[0]`"),
        (KNOWN[17], [1, [0.0, 2.0]], "expected 0.0 to 1.0, got 2.0 - at `$[1][1]`"),
    ],
    ids=repr,
)
def test_what_is_not_in_a_space_is_refused_with_its_path(
    space: Space[Any], value: Any, message: str
) -> None:
    with pytest.raises(InvalidAction) as refused:
        spaces.load(space, value)

    assert message in str(refused.value)
    (detail,) = json.loads(refused.value.detail)
    assert {*detail} == {"type", "loc", "msg", "input"}


def test_numbers_of_other_types_are_cast_without_leaving_the_bounds() -> None:
    tenth = kinds.Box(0, 0.1, (1,), np.float32)
    beyond = np.nextafter(np.float64(np.float32(0.1)), 1)

    assert tenth.contains(spaces.load(tenth, [beyond]))
    assert spaces.load(tenth, [0]).dtype == np.float32
    assert spaces.load(IMAGE, np.ones((20, 30, 3), np.int64)).dtype == np.uint8


def test_an_action_is_the_environments_own_to_write_to() -> None:
    came = sent(np.zeros(2, np.float32))
    assert not came.flags.writeable

    assert spaces.load(UNEVEN, came).flags.writeable


def test_a_schema_has_all_that_the_space_has() -> None:
    box = spaces.schema(UNEVEN)[spaces.KEY]
    image = spaces.schema(IMAGE)[spaces.KEY]

    low = np.array([[-np.inf if b is None else b for b in box["low"]]], box["dtype"])[0]
    high = np.array([np.inf if b is None else b for b in box["high"]], box["dtype"])
    assert kinds.Box(low, high, tuple(box["shape"]), np.float32) == UNEVEN
    assert image == {
        "space": "Box",
        "shape": [20, 30, 3],
        "dtype": "uint8",
        "low": 0,
        "high": 255,
    }
    assert json.dumps(spaces.schema(UNEVEN), allow_nan=False)


class Odd(Space[Any]):
    """A space that nobody knows."""

    def __repr__(self) -> str:
        return "Odd()"


@pytest.mark.parametrize(
    ("space", "where"),
    [
        (Odd(), "`Odd` - at `$`"),
        (kinds.Dict({"a": kinds.Tuple([kinds.Discrete(2), Odd()])}), "`Odd` - at `$.a[1]`"),
        (kinds.Graph(kinds.Discrete(2), None), "`Graph` - at `$`"),
        (kinds.Sequence(kinds.Discrete(2), stack=True), "`Sequence` - at `$`"),
    ],
    ids=str,
)
def test_a_space_that_is_not_known_is_told_where_it_is(space: Space[Any], where: str) -> None:
    assert spaces.unknown(space) == where
    assert json_schema.flaws(spaces.schema(space)) == []


def test_actions_in_a_space_that_is_not_known_are_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="not supported: `Odd`"):
        spaces.load(Odd(), 0)


def test_keys_that_are_no_texts_are_refused() -> None:
    with pytest.raises(UsageError, match="key 1; keys must be texts"):
        spaces.schema(kinds.Dict({1: kinds.Discrete(2)}))  # type: ignore[dict-item]


def test_a_graph_can_be_observed() -> None:
    space = kinds.Graph(kinds.Box(-1, 1, (3,)), kinds.Discrete(2))
    space.seed(3)
    value = spaces.dump(space, space.sample(num_nodes=4, num_edges=5))

    assert json_schema.misfits(plain(value), spaces.schema(space)) == []
    assert value["nodes"].shape == (4, 3)


def test_an_observation_that_is_not_in_its_space_is_handed_on() -> None:
    assert spaces.dump(kinds.Discrete(2), "what") == "what"
    assert spaces.dump(KNOWN[15], 7) == 7
    assert spaces.dump(KNOWN[14], (1,)) == (1,)
    assert spaces.dump(UNEVEN, [1, 2]).dtype == np.float32
    assert spaces.dump(UNEVEN, ["a"]) == ["a"]
