"""Whatever a keeper or an interpreter may say, an environment hears one of four errors.

Between agent code and the grader stand two decoders: the keeper's, for what the interpreter
says, and `AgentSandbox`, for what the keeper says. Neither may crash, hang, or take a wrong
thing for a right one.
"""

from __future__ import annotations

import json
import math
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.authoring.agent import AgentRaised, AgentSandbox, AgentStopped, NotPlain, Ran
from envhub.errors import AgentSandboxFailed
from envhub.runner import keeper
from envhub.runner.channel import MAX_BYTES, Channel
from envhub.wire import plain

RAN = {"stdout": "", "stderr": "", "exit_code": 0, "cut": None, "alive": True}
EXPECTED = (AgentSandboxFailed, AgentRaised, AgentStopped, NotPlain)


def frame(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


@contextmanager
def sandbox_that_hears(answer: bytes) -> Iterator[AgentSandbox]:
    """Hold an AgentSandbox whose keeper answers its first question with these bytes."""
    ours, theirs = socket.socketpair()

    def answer_once() -> None:
        with theirs:
            try:
                theirs.recv(1 << 16)
                theirs.sendall(answer)
            except OSError:
                pass  # it was told enough, and hung up

    thread = threading.Thread(target=answer_once)
    thread.start()
    sandbox = AgentSandbox(1, ours)
    try:
        yield sandbox
    finally:
        sandbox.close()
        thread.join()


def heard(answer: bytes, ask: Callable[[AgentSandbox], Any]) -> Any:
    """What comes of asking: a value, or the class of the error."""
    with sandbox_that_hears(answer) as sandbox:
        try:
            return ask(sandbox)
        except EXPECTED as error:
            return type(error)


def run(sandbox: AgentSandbox) -> Ran:
    return sandbox.run("", timeout_s=5)


def call(sandbox: AgentSandbox) -> Any:
    return sandbox.call("f", timeout_s=5)


def test_an_honest_answer_is_heard() -> None:
    """The control of all that follow."""
    ran = heard(
        frame(json.dumps({"ran": {**RAN, "stdout": "x", "exit_code": 3}}).encode()), run
    )
    value = heard(frame(json.dumps({"value": json.dumps({"t": [1, 2]})}).encode()), call)

    assert ran == Ran("x", "", 3, None, True)
    assert value == (1, 2)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        struct.pack(">I", MAX_BYTES + 1),
        frame(b""),
        frame(b"{"),
        frame(b"[]"),
        frame(b"7"),
        frame(b"\xff"),
        frame(b'"\xed\xa0\x80"'),
        frame(b"[" * 100_000),
        frame(b'{"ran": ' + b"[" * 5000 + b"]" * 5000 + b"}"),
        frame(b'{"ran": ' + b"9" * 5000 + b"}"),
        frame(b"{}")[:-1],
    ],
    ids=repr,
)
@pytest.mark.parametrize("ask", [run, call])
def test_what_is_no_message_is_a_failed_sandbox(
    answer: bytes, ask: Callable[[AgentSandbox], Any]
) -> None:
    assert heard(answer[:200_100], ask) is AgentSandboxFailed


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"ran": None},
        {"ran": []},
        {"ran": {}},
        {"ran": "stdout"},
        {"ran": RAN, "reward": 1.0},
        {"run": RAN},
        {"value": 1},
        *({"ran": {k: v for k, v in RAN.items() if k != key}} for key in RAN),
        *({"ran": {**RAN, key: {"a": 1}}} for key in RAN),
        *({"ran": {**RAN, "exit_code": code}} for code in (True, 1.0, "0", 256, -65, 10**30)),
        *({"ran": {**RAN, "cut": cut}} for cut in ("", "Timeout", 1, ["timeout"])),
        *({"ran": {**RAN, "alive": alive}} for alive in (0, 1, None, "true")),
        {"ran": {**RAN, "stdout": None}},
    ],
    ids=json.dumps,
)
def test_a_run_of_another_shape_is_a_failed_sandbox(reply: dict[str, Any]) -> None:
    """Nothing of it becomes an observation."""
    assert heard(frame(json.dumps(reply).encode()), run) is AgentSandboxFailed


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_no_exit_codes(word: str) -> None:
    reply = json.dumps({"ran": {**RAN, "exit_code": 7}}).replace("7", word).encode()

    assert heard(frame(reply), run) is AgentSandboxFailed


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{",
        "[" * 100_000,
        "[" * 900 + "]" * 900,
        "[" * 34 + "]" * 34,
        "9" * 5000,
        str(1 << 4097),
        '{"t": 1}',
        '{"t": [], "s": []}',
        '{"object": []}',
        '{"s": [[]]}',
        '{"d": [[1]]}',
        '{"d": [[[], 1]]}',
        '{"d": 1}',
        '{"b": "?"}',
        '{"b": 1}',
        '{"f": "0"}',
        '{"f": []}',
        '{"c": [1, 2, 3]}',
        '{"c": ["a", "b"]}',
        json.dumps([0] * 300_000),
        json.dumps({"s": list(range(10_000))}),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_no_value_is_not_plain(value: str) -> None:
    """A wrong answer, and not a failure of the machinery: the agent chose it."""
    assert heard(frame(json.dumps({"value": value}).encode()), call) is NotPlain


def test_colliding_members_of_a_set_are_too_many_before_they_are_slow() -> None:
    """Multiples of 2^61 - 1 all have the hash 0; a set of n of them takes n² steps."""
    colliding = [n * (2**61 - 1) for n in range(50_000)]
    value = json.dumps({"s": colliding})

    assert len({hash(number) for number in colliding}) == 1
    assert heard(frame(json.dumps({"value": value}).encode()), call) is NotPlain


def test_values_that_json_has_no_number_for_come_as_what_they_are() -> None:
    for word, is_it in (("nan", math.isnan), ("inf", math.isinf), ("-inf", math.isinf)):
        reply = {"value": json.dumps({"f": word})}

        assert is_it(heard(frame(json.dumps(reply).encode()), call))


def test_half_a_surrogate_comes_as_a_string_that_equals_no_text() -> None:
    reply = {"value": json.dumps("\ud800")}

    assert heard(frame(json.dumps(reply).encode()), call) == "\ud800"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"raised": ["E", "text"]}, AgentRaised),
        ({"unfit": "too deep"}, NotPlain),
        ({"stopped": "timeout"}, AgentStopped),
        ({"raised": ["E"]}, NotPlain),
        ({"raised": [1, 2]}, NotPlain),
        ({"raised": "E"}, NotPlain),
        ({"unfit": 1}, NotPlain),
        ({"stopped": None}, NotPlain),
        ({"ran": RAN}, NotPlain),
        ({}, NotPlain),
    ],
    ids=str,
)
def test_every_answer_to_a_call_has_its_error(
    reply: dict[str, Any], error: type[Exception]
) -> None:
    assert heard(frame(json.dumps(reply).encode()), call) is error


def test_after_broken_words_nothing_more_is_asked() -> None:
    with sandbox_that_hears(frame(b"[]") + frame(json.dumps({"ran": RAN}).encode())) as sandbox:
        for _ in range(2):
            with pytest.raises(AgentSandboxFailed):
                run(sandbox)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["ran", "value", "raised", "unfit", "stopped", "t", "d", "s", *RAN]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60)
@given(anything | st.builds(lambda inner: {"value": json.dumps(inner)}, anything))
def test_no_reply_at_all_is_another_error_than_those_four(reply: Any) -> None:
    """`heard` lets any other one through."""
    answer = frame(json.dumps(reply).encode())

    heard(answer, call)
    ran = heard(answer, run)
    assert ran is AgentSandboxFailed or isinstance(ran, Ran)


@settings(max_examples=60)
@given(st.binary(max_size=40))
def test_no_bytes_at_all_are_another_error_than_a_failed_sandbox(data: bytes) -> None:
    assert heard(frame(data), run) is AgentSandboxFailed


@given(anything)
def test_what_is_read_as_a_value_is_made_of_plain_types_only(data: Any) -> None:
    kinds = {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        list,
        tuple,
        dict,
        set,
        frozenset,
    }

    def all_plain(value: Any) -> bool:
        if type(value) in (list, tuple, set, frozenset):
            return all(map(all_plain, value))
        if type(value) is dict:
            return all(all_plain(k) and all_plain(v) for k, v in value.items())
        return type(value) in kinds

    try:
        value = plain.from_json(data)
    except NotPlain:
        return
    assert all_plain(value)


# ---------------------------------------------------------------- the keeper hears the agent


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"exit_code": 0},
        {"cut": None},
        {"exit_code": 2, "cut": None},
        {"exit_code": -1, "cut": None},
        {"exit_code": True, "cut": None},
        {"exit_code": 0.0, "cut": None},
        {"exit_code": None, "cut": None},
        {"exit_code": 1 << 70, "cut": None},
        {"exit_code": 0, "cut": "timeout"},
        {"exit_code": 0, "cut": "killed"},
        {"exit_code": 0, "cut": []},
        {"exit_code": 0, "cut": None, "stdout": "forged"},
        {"value": "1"},
    ],
    ids=json.dumps,
)
def test_a_keeper_takes_no_other_word_for_how_a_run_went(reply: dict[str, Any]) -> None:
    """What the interpreter itself says of a run is all that agent code can say of it."""
    assert not keeper._fits_run(reply)


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("cut", [None, "memory"])
def test_a_keeper_takes_the_words_of_an_interpreter(code: int, cut: str | None) -> None:
    """The control of the one above."""
    assert keeper._fits_run({"exit_code": code, "cut": cut})


@given(anything.filter(lambda value: isinstance(value, dict)))
def test_a_keeper_judges_every_reply_without_an_error(reply: dict[str, Any]) -> None:
    fits = [keeper._fits_run(reply), keeper._fits_call(reply)]

    assert not all(fits)


def test_a_steady_trickle_of_output_does_not_outlast_the_deadline() -> None:
    """A semaphore counter has eight more bytes at every reading, as a busy writer has."""
    ours, theirs = socket.socketpair()
    counter = os.eventfd(2**31, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
    silent, unused = os.pipe()
    try:
        running = object.__new__(keeper._Interpreter)
        running._channel = Channel(ours)
        running._stdout, running._stderr, running._pidfd = counter, silent, silent
        seen = keeper._Seen()
        running._watch(seen, deadline=-1.0, fits=keeper._fits_run)
    finally:
        for descriptor in (counter, silent, unused):
            os.close(descriptor)
        ours.close()
        theirs.close()

    assert seen.cut == "timeout"
