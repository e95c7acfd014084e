"""One request to one reply, without a socket or a process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from envhub.authoring import schema
from envhub.wire.messages import (
    Close,
    Closed,
    Describe,
    Described,
    Failed,
    GetState,
    Observed,
    Reset,
    StateRead,
    Step,
)
from envhub.worker.answer import Answering


class Counter:
    """Counts.

    And this is not its description any more.
    """

    made = 0

    def __init__(self) -> None:
        Counter.made += 1
        self.count = 0
        self.closed = False

    def reset(self, seed: int | None = None, start: int = 0) -> dict[str, int]:
        self.count = start
        return {"count": self.count}

    def step(self, action: dict[str, int], timeout_s: float = 0) -> dict[str, float]:
        self.count += action["by"]
        return {"count": self.count, "timeout_s": timeout_s}

    @property
    def state(self) -> dict[str, int]:
        return {"count": self.count}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def answering() -> Answering:
    return Answering(Counter, schema.read(Counter))


def native(value: Any) -> bytes:
    return schema.encode_native(value)


def test_describing_constructs_nothing(answering: Answering) -> None:
    before = Counter.made
    reply = answering.answer(Describe(1))

    assert isinstance(reply, Described)
    assert (reply.title, reply.description) == ("Counter", "Counts.")
    assert reply.reset_options == ("seed", "start")
    assert Counter.made == before


def test_native_calls(answering: Answering) -> None:
    first = answering.answer(Reset(1, "msgpack", native({"start": 5})))
    second = answering.answer(Step(2, "msgpack", native({"by": 2})))
    state = answering.answer(GetState(3, "msgpack"))

    assert isinstance(first, Observed)
    assert schema.decode_native(first.payload) == {"count": 5}
    assert isinstance(second, Observed)
    assert schema.decode_native(second.payload)["count"] == 7
    assert isinstance(state, StateRead)
    assert schema.decode_native(state.payload) == {"count": 7}


def test_openenvs_calls_filter_options_and_need_no_reset(answering: Answering) -> None:
    stepped = answering.answer(Step(1, "json", b'{"by": 2}', b'{"timeout_s": 3, "x": 1}'))
    reset = answering.answer(Reset(2, "json", b'{"seed": "abc", "start": 1, "unknown": 1}'))

    assert isinstance(stepped, Observed)
    assert json.loads(stepped.payload)["observation"] == {"count": 2, "timeout_s": 3}
    assert isinstance(reset, Observed)
    assert json.loads(reset.payload)["observation"] == {"count": 1}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Step(1, "msgpack", b"\x80"), "reset_needed"),
        (Reset(1, "msgpack", native({"strat": 1})), "invalid_option"),
        (Reset(1, "msgpack", native([])), "invalid_option"),
        (Reset(1, "msgpack", b"\xc1"), "usage"),
        (Reset(1, "json", b"{"), "usage"),
        (Step(1, "json", b'{"by": "x"}'), "invalid_action"),
        (Step(1, "json", b'{"to": 1}'), "environment_failed"),
        (Step(1, "json", b"[]"), "invalid_action"),
    ],
)
def test_what_cannot_be_answered_is_a_typed_failure(
    answering: Answering, request_: Any, code: str
) -> None:
    reply = answering.answer(request_)

    assert isinstance(reply, Failed)
    assert reply.code == code


def test_close_closes_the_environment_once_it_exists(answering: Answering) -> None:
    assert answering.answer(Close(1)) == Closed(1)
    answering.answer(Reset(2, "msgpack", b""))
    answering.answer(Close(3))

    assert answering._environment.closed


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


class Hostile:
    def reset(self) -> None:
        raise Unprintable

    def step(self, action: Any) -> None: ...


def test_an_exception_that_cannot_be_printed_is_still_reported() -> None:
    reply = Answering(Hostile, schema.read(Hostile)).answer(Reset(1, "msgpack", b""))

    assert isinstance(reply, Failed)
    assert "Unprintable" in reply.message


async def test_the_event_loops_run_gives_the_same_replies(answering: Answering) -> None:
    async def call(function: Any, *arguments: Any, **options: Any) -> Any:
        return function(*arguments, **options)

    request = Reset(1, "msgpack", native({"start": 5}))

    other = Answering(Counter, schema.read(Counter))

    assert await answering.answer_async(request, call) == other.answer(request)
