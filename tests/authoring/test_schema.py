"""Actions in, observations out: every kind of type that an author may write."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

import envhub
from envhub.authoring import schema
from envhub.errors import InvalidAction


class ModelAction(envhub.Action):
    code: str
    n: int = 0


@dataclasses.dataclass
class DataAction:
    code: str
    n: int = 0


class StructAction(msgspec.Struct):
    code: str
    n: int = 0


KINDS = [ModelAction, DataAction, StructAction]


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_is_loaded_into_the_authors_type(kind: Any) -> None:
    action = schema.codec(kind).load({"code": "x"})

    assert isinstance(action, kind)
    assert (action.code, action.n) == ("x", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_that_does_not_fit_says_where(kind: Any) -> None:
    with pytest.raises(InvalidAction, match=r"\$\.n"):
        schema.codec(kind).load({"code": "x", "n": "many"})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_json_schema(kind: Any) -> None:
    assert "code" in json.dumps(schema.codec(kind).schema())


class Seen(envhub.Observation):
    text: str = ""


@dataclasses.dataclass
class DataSeen:
    text: str
    reward: float | None = None
    done: bool = False


class StructSeen(msgspec.Struct):
    text: str
    reward: float | None = None
    truncated: bool = False


def test_reward_and_flags_are_lifted_out_of_the_observation() -> None:
    seen = Seen(text="a", reward=0.5, done=True, metadata={"k": 1})
    got = schema.outcome(schema.codec(Seen), seen, "msgpack")

    assert schema.decode_native(got.payload) == {"text": "a"}
    assert (got.reward, got.terminated, got.truncated) == (0.5, True, False)
    assert schema.decode_native(got.metadata) == {"k": 1}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (DataSeen, DataSeen("a", 1.0, True), (1.0, True, False)),
        (StructSeen, StructSeen("a", None, True), (None, False, True)),
        (Any, {"text": "a", "reward": 2}, (2.0, False, False)),
    ],
    ids=["dataclass", "struct", "mapping"],
)
def test_other_kinds_of_observation_work_too(kind: Any, value: Any, expected: Any) -> None:
    got = schema.outcome(schema.codec(kind), value, "msgpack")

    assert schema.decode_native(got.payload) == {"text": "a"}
    assert (got.reward, got.terminated, got.truncated) == expected


def test_openenvs_form_has_its_envelope_and_metadata_twice() -> None:
    seen = Seen(text="a", reward=True, truncated=True, metadata={"k": float("nan")})
    got = schema.outcome(schema.codec(Seen), seen, "json")

    assert json.loads(got.payload) == {
        "observation": {"metadata": {"k": None}, "text": "a"},
        "reward": True,
        "done": True,
        "metadata": {"k": None},
    }


def test_a_reward_that_is_not_finite_has_no_form() -> None:
    with pytest.raises(ValueError, match="finite"):
        schema.outcome(schema.codec(Seen), Seen(reward=float("inf")), "msgpack")


@pytest.mark.parametrize("metadata", [None, {}])
def test_no_metadata_is_an_empty_mapping(metadata: Any) -> None:
    got = schema.outcome(schema.codec(dict), {"a": 1, "metadata": metadata}, "msgpack")

    assert (got.payload, got.metadata) == (schema.encode_native({"a": 1}), b"\x80")


def test_metadata_that_is_no_mapping_has_no_form() -> None:
    with pytest.raises(ValueError, match="metadata must be a mapping or None, and is 'x'"):
        schema.outcome(schema.codec(dict), {"metadata": "x"}, "msgpack")


class Point(BaseModel):
    x: int


@pytest.mark.parametrize("kind", [dict, Any])
def test_a_mapping_is_not_the_environments_own_afterwards(kind: Any) -> None:
    """What it keeps of what it returned is not changed by that it is sent."""
    plain, deep = {"reward": 1.0, "a": 1}, {"done": True, "at": Point(x=1), "all": [Point(x=2)]}
    got = [schema.outcome(schema.codec(kind), value, "msgpack") for value in (plain, deep)]

    assert plain == {"reward": 1.0, "a": 1}
    assert deep == {"done": True, "at": Point(x=1), "all": [Point(x=2)]}
    assert schema.decode_native(got[1].payload) == {"at": {"x": 1}, "all": [{"x": 2}]}


class Aliased(BaseModel):
    text: str = Field("a", alias="words")


def test_fields_keep_their_names_where_they_have_an_alias() -> None:
    got = schema.outcome(schema.codec(Aliased), Aliased(words="b"), "msgpack")

    assert schema.decode_native(got.payload) == Aliased(words="b").model_dump() == {"text": "b"}


def test_arrays_pass_in_both_forms() -> None:
    value = {"pixels": np.arange(6, dtype=np.uint8).reshape(2, 3), "n": np.int64(3)}
    native = schema.outcome(schema.codec(Any), dict(value), "msgpack")
    openenv = schema.outcome(schema.codec(Any), dict(value), "json")

    assert schema.decode_native(native.payload)["pixels"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert json.loads(openenv.payload)["observation"]["pixels"] == [[0, 1, 2], [3, 4, 5]]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
# what JSON is made of, put together as it comes
scraps = st.lists(
    st.sampled_from([
        b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\n", b"\x0c", b"\x00", b"-", b"+",
        b".", b"0", b"1", b"9" * 20, b"9" * 400, b"e", b"E", b"e400", b"null", b"true", b"NaN",
        b"-Infinity", b"a", b'"a":', b"\\", b"\\u", b"d800", b"\\ud83d\\ude00", b"\xff",
        b"\xed\xa0\x80", b"\xef\xbb\xbf", "é\u2028".encode(), "[1]".encode("utf-16"),
    ]),
    max_size=12,
).map(b"".join)  # fmt: skip


def loaded(load: Any, data: bytes) -> str:
    """What comes of it, by its words: a NaN is equal to none."""
    try:
        return repr(load(data))
    except (ValueError, RecursionError):
        return "refused"


@given(
    values.map(lambda value: json.dumps(value).encode())
    | values.map(lambda value: json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    | scraps
)
@example(b'{"a": 1, "a": 2}')
@example(b"-0")
@example(b"123456789012345678901234567890")
@example(b"1" * 5000)
@example(b"0.1e-400")
def test_openenvs_json_is_what_the_standard_library_makes_of_it(data: bytes) -> None:
    assert loaded(schema.decode_openenv, data) == loaded(json.loads, data)


class Typed:
    def reset(self, seed: int | None = None, task: str = "") -> Seen:
        return Seen()

    def step(self, action: ModelAction, timeout_s: float | None = None) -> Seen:
        return Seen()

    @property
    def state(self) -> envhub.State:
        return envhub.State()


def test_types_and_options_are_read_from_the_annotations() -> None:
    signature = schema.read(Typed)

    assert signature.reset_options == ("seed", "task")
    assert signature.step_options == ("timeout_s",)
    assert "code" in signature.action.schema()["properties"]
    assert "text" in signature.observation.schema()["properties"]
    assert "step_count" in signature.state.schema()["properties"]


def test_an_environment_without_a_step_is_refused_by_name() -> None:
    class Half:
        def reset(self) -> None: ...

    with pytest.raises(TypeError, match="`Half` has no method `step`"):
        schema.read(Half)


class Overriding(BaseModel):
    text: str = ""

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return {"text": "overridden"}


def test_a_models_own_dump_is_the_one_that_counts() -> None:
    got = schema.outcome(schema.codec(Overriding), Overriding(), "msgpack")

    assert schema.decode_native(got.payload) == {"text": "overridden"}
