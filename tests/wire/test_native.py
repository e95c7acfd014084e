"""The native protocol's bytes: what is said is heard, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub import errors
from envhub.errors import EnvhubError, RemoteProtocolError
from envhub.wire import failures, native, vector
from tests.wire import vectors

numbers = st.integers(0, 2**53 - 1)
channels = st.integers(0, 2**32 - 1)
names = st.text(max_size=20)
NUMBERED = (native.Continue, native.State, native.Describe)
requests = st.one_of(
    st.builds(native.Open, channels, st.binary(min_size=16, max_size=64), names, names),
    st.builds(native.Resume, channels, st.binary(min_size=16, max_size=64)),
    st.builds(native.Reset, channels, numbers, numbers, st.binary()),
    st.builds(native.Step, channels, numbers, numbers, st.binary(), st.booleans()),
    *(st.builds(kind, channels, numbers, numbers) for kind in NUMBERED),
    st.builds(
        native.Gather,
        channels,
        numbers,
        numbers,
        st.integers(1, vector.MAX_TOGETHER),
        st.sampled_from(["next_step", "same_step", "disabled"]),
        st.binary(),
        st.booleans(),
        st.lists(st.none() | st.integers(-vector.MAX_SEED, vector.MAX_SEED)).map(tuple),
    ),
    st.builds(native.Ask, channels, numbers, numbers, names, st.binary(), st.booleans()),
    st.builds(native.Cancel, channels, numbers),
    st.builds(native.Bill, channels),
    st.builds(native.Close, channels),
)
frames = st.builds(
    native.Frame,
    st.integers(0, native.MAX_GROUP),
    st.integers(0, native.MAX_REQUESTS),
    st.lists(requests, max_size=20),
)
fractions = st.floats(allow_nan=False)
limits = st.dictionaries(names, fractions, max_size=5)
layers = st.lists(names, max_size=5).map(tuple)
replies = st.one_of(
    st.builds(native.Opened, channels, names, names, numbers, fractions, limits),
    st.builds(native.Process, channels, numbers, names, names, layers, layers, numbers, layers),
    st.builds(
        native.Observed,
        channels,
        numbers,
        st.binary(),
        st.none() | fractions,
        st.booleans(),
        st.booleans(),
        st.binary(),
        st.booleans(),
        names,
    ),
    st.builds(native.Finished, channels, numbers),
    st.builds(native.Read, channels, numbers, st.binary()),
    st.builds(
        native.Described,
        channels,
        numbers,
        names,
        names,
        *(st.binary() for _ in range(4)),
        st.none() | layers,
    ),
    st.builds(
        native.Gathered,
        channels,
        numbers,
        st.binary(),
        st.binary(),
        st.binary(),
        st.none() | names,
    ),
    st.builds(native.Billed, channels, limits),
    st.builds(native.Closed, channels),
    st.builds(
        native.Failed,
        channels,
        numbers,
        names,
        names,
        names,
        st.dictionaries(names, names | fractions | layers, max_size=3),
    ),
)


@given(frames)
def test_what_a_client_says_is_heard(frame: native.Frame) -> None:
    assert native.requests(native.encode(frame)) == frame


@given(st.lists(replies, max_size=40))
def test_what_the_hub_says_is_heard(said: list[native.Reply]) -> None:
    assert native.replies(native.joined([native.encode(reply) for reply in said])) == said


@given(st.binary(max_size=200))
def test_other_bytes_are_refused_or_a_whole_frame(data: bytes) -> None:
    for decode in (native.requests, native.replies):
        try:
            decode(data)
        except RemoteProtocolError:
            continue


@given(frames, st.data())
def test_a_frame_cut_short_is_refused(frame: native.Frame, data: st.DataObject) -> None:
    whole = native.encode(frame)
    cut = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(RemoteProtocolError):
        native.requests(whole[:cut])


@pytest.mark.parametrize(
    "frame",
    [
        [0, 0, [["launch", 1]]],
        [0, 0, [["close", -1]]],
        [0, 0, [["close", 2**32]]],
        [0, 0, [["close", 1, 1]]],
        [0, 0, [["close", "1"]]],
        [0, 0, [["open", 1, b"short", "echo", ""]]],
        [0, 0, [["open", 1, b"k" * 65, "echo", ""]]],
        [0, 0, [["open", 1, b"k" * 16, "e" * 256, ""]]],
        [0, 0, [["step", 1, 2**53, 0, b""]]],
        [0, 0, [["step", 1, 1, 0, "text"]]],
        [0, 0, [["gather", 1, 1, 0, 0, "next_step"]]],
        [0, 0, [["gather", 1, 1, 0, vector.MAX_TOGETHER + 1, "next_step"]]],
        [0, 0, [["gather", 1, 1, 0, 4, "whenever"]]],
        [0, 0, [["ask", 1, 1, 0, "n" * 256, b""]]],
        [0, 0, [["close", 1]] * (native.MAX_REQUESTS + 1)],
        [1024, 0, []],
        [0, 0, [], 0],
        [0, 0],
        {},
        None,
    ],
)
def test_a_request_that_is_none_is_refused(frame: object) -> None:
    with pytest.raises(RemoteProtocolError):
        native.requests(msgspec.msgpack.encode(frame))


def test_a_client_may_leave_out_what_has_a_default() -> None:
    said = [0, 0, [["step", 1, 2, 1, b"x"], ["open", 1, b"k" * 16, "echo"]]]

    step, opening = native.requests(msgspec.msgpack.encode(said)).requests

    assert step == native.Step(1, 2, 1, b"x", False)
    assert opening == native.Open(1, b"k" * 16, "echo", "")


@pytest.mark.parametrize("kind", [*failures._FIELDS], ids=lambda kind: kind.code)
def test_every_error_arrives_as_it_was(kind: type[EnvhubError]) -> None:
    error = kind("what happened", hint="what to do")

    arrived = failures.exception(failures.failed(1, 2, error))

    assert type(arrived) is kind
    assert (str(arrived), vars(arrived)) == (str(error), vars(error))


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidAction("no", detail=b'[{"loc":["n"]}]'),
        errors.DeadlineExceeded(
            "late", verdict="deadline", limit="step_s", allowed=1.5, observed=2, output="x"
        ),
        errors.SchemaMismatch("other", expected="a", found="b", difference=("one", "two")),
        errors.CapacityError("full", active=3, limit=3),
    ],
)
def test_what_an_error_tells_arrives_with_it(error: EnvhubError) -> None:
    frame = native.joined([native.encode(failures.failed(1, 2, error))])
    [told] = native.replies(frame)

    assert isinstance(told, native.Failed)
    assert vars(failures.exception(told)) == vars(error)


def test_an_error_of_a_later_hub_is_an_error_all_the_same() -> None:
    told = native.Failed(1, 2, "from the future", "it broke", "", {"colour": "blue"})

    assert type(failures.exception(told)) is EnvhubError


def test_the_published_vectors_are_what_is_said() -> None:
    assert vectors.FILE.read_text() == vectors.text()
