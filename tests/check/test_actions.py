"""Actions that are made from a schema are accepted by the type that it is the schema of."""

from __future__ import annotations

import datetime
import enum
import uuid
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import msgspec
import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from envhub import Action
from envhub.check.actions import Actions, from_file, valid
from envhub.check.schema import flaws, misfits
from envhub.errors import UsageError


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Point(msgspec.Struct):
    x: Annotated[int, msgspec.Meta(ge=0, le=9)]
    name: Annotated[str, msgspec.Meta(max_length=4)] = ""
    next: Point | None = None


class Move(Action):
    kind: Literal["move"]
    by: tuple[int, int]


class Say(Action):
    kind: Literal["say"]
    text: str = Field(min_length=1, max_length=3)


class Many(Action):
    a: int = Field(ge=3, le=4)
    b: float = Field(gt=0, lt=0.5)
    c: Annotated[int, Field(multiple_of=5)] = 0
    d: str | None = None
    e: list[Annotated[str, Field(max_length=2)]] = Field(min_length=2, max_length=3)
    f: dict[str, float] = Field(default_factory=dict)
    g: Side = Side.LEFT
    h: bool | int | None = None
    i: set[int] = Field(default_factory=set)
    j: datetime.datetime | None = None
    k: uuid.UUID | None = None
    m: Literal[1, 2, "three"] = 1
    n: Tree | None = None
    o: Any = None
    p: Annotated[str, Field(pattern=r"^[a-h][1-8][a-h][1-8]$")] = "e2e4"
    q: Decimal = Decimal(1)
    r: bytes = b""
    s: datetime.date | None = None
    t: Annotated[int, Field(gt=7)] = 8
    u: Annotated[float, Field(le=-3)] = -4


TYPES: list[Any] = [Action, Move, Say, Many, Tree, Move | Say,
         Annotated[Move | Say, Field(discriminator="kind")],
         dict[str, int], list[Many]]  # fmt: skip


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_pydantic_accepts_what_is_made_from_its_schema(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    schema = adapter.json_schema()

    assert flaws(schema) == []
    for seed in range(100):
        adapter.validate_python(valid(schema, Random(seed)))


def test_so_does_msgspec() -> None:
    schema = msgspec.json.schema(Point)
    for seed in range(100):
        msgspec.convert(valid(schema, Random(seed)), Point)


RIGHT = {"a": 3, "b": 0.1, "e": ["", ""]}


@pytest.mark.parametrize(
    "value",
    [
        {}, [], None, {"a": 2}, {"a": "three"}, {"b": 0.0}, {"b": 0.5}, {"e": [""]},
        {"e": ["abc", ""]}, {"c": 7}, {"d": 1}, {"f": {"x": "y"}}, {"g": "up"}, {"m": 3},
        {"n": {"value": 1, "children": [{"value": "x"}]}}, {"p": "e9e4"}, {"t": 7}, {"z": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_pydantic_refuses_does_not_fit_the_schema(value: Any) -> None:
    if isinstance(value, dict) and value:
        value = {**RIGHT, **value}
    Many.model_validate(RIGHT)
    with pytest.raises(ValidationError):
        Many.model_validate(value, strict=False)

    assert misfits(value, Many.model_json_schema())


def test_the_same_seed_makes_the_same_actions_and_another_others() -> None:
    schema = Many.model_json_schema()
    one, again, other = Actions(schema, 1), Actions(schema, 1), Actions(schema, 2)
    made = [[actions.at(step) for step in range(5)] for actions in (one, again, other)]

    assert made[0] == made[1] != made[2]


def test_what_cannot_be_made_is_said_with_a_way_out() -> None:
    schema = {"type": "string", "pattern": "^[a-z]{17}[0-9]{5}$"}
    with pytest.raises(UsageError) as refused:
        valid(schema, Random(1))

    assert "--actions FILE.jsonl" in refused.value.hint


@pytest.mark.parametrize(
    ("schema", "flaw"),
    [
        (True, "expected a mapping"),
        ({"type": "text"}, "`text` is no type of JSON Schema"),
        ({"properties": {"a": {"$ref": "#/$defs/B"}}}, "`#/$defs/B` refers to nothing"),
        ({"$ref": "#"}, "refers to itself"),
        ({"items": {"pattern": "("}}, "pattern"),
        ({"required": "a"}, "expected a list of names"),
        ({"anyOf": {}}, "expected a list"),
    ],
)
def test_a_schema_that_is_none_is_told(schema: Any, flaw: str) -> None:
    assert flaw in flaws(schema)[0]


def test_a_file_of_actions_is_lines_of_json(tmp_path: Path) -> None:
    file = tmp_path / "actions.jsonl"
    file.write_text('{"a": 1}\n\n{"a": 2}\n')
    given = from_file(file)
    actions = Actions({}, 0, given)

    assert [actions.at(step) for step in range(3)] == [{"a": 1}, {"a": 2}, {"a": 1}]
    file.write_text('{"a": 1}\n{')
    with pytest.raises(UsageError, match="line 2"):
        from_file(file)
    file.write_text("\n")
    with pytest.raises(UsageError, match="has no actions"):
        from_file(file)
