"""Sessions of many environments as a client of any language has them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from envhub.door.native.ledger import Ledger
from envhub.errors import OutOfOrder
from envhub.wire import blobs, infos, native
from envhub.wire.vector import OF_SOME, RESET, SKIP, STEP
from tests.protocol.raw import Raw, key
from tests.serving import serving

ENVS = Path(__file__).parents[1] / "adapters" / "envs"
NOTHING, RAISE, EXIT, SLEEP, NAN, PRINT, END, INFO, SHAPE = range(9)
ALL, STEPS = bytes([RESET] * 4), bytes([STEP] * 4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--envs", str(ENVS), "--drain-s", "0") as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Raw]:
    with Raw(url) as client:
        yield client


def gather(
    client: Raw, count: int = 4, name: str = "odd", mode: Any = "next_step", **options: Any
) -> bytes:
    own = key()
    client.say(
        native.Open(1, own, name),
        native.Gather(1, 1, 0, count, mode, infos.encode_info(options)),
    )
    assert isinstance(client.hear(), native.Opened)
    made = client.hear()
    assert isinstance(made, native.Gathered), made
    return own


def reset(op: int, todo: bytes = ALL, seeds: tuple[int | None, ...] = ()) -> native.Reset:
    return native.Reset(1, op, op - 1, blobs.encode(blobs.Resets(todo, seeds)))


def step(op: int, *acts: int, todo: bytes = STEPS, acked: int | None = None) -> Any:
    """A step as docs/protocol.md has it: each array at the next multiple of 64."""
    actions = struct.pack(f"<{len(acts)}q", *acts)
    blob = todo.ljust(64, b"\0") + actions.ljust(-len(actions) // 64 * -64, b"\0")
    return native.Step(1, op, op - 1 if acked is None else acked, blob)


def results(reply: native.Observed) -> tuple[list[float], list[int], list[int], list[float]]:
    """Rewards, both flags and the first number of each observation, of four environments."""
    at = [reply.payload[first : first + 64] for first in range(0, len(reply.payload), 64)]
    seen = struct.unpack_from("<12d", b"".join(at[2:]))
    rewards = struct.unpack_from("<4d", at[0])
    return list(rewards), list(at[1][:4]), list(at[1][4:8]), list(seen[::3])


def told(client: Raw, *requests: native.Request) -> Any:
    client.say(*requests)
    return client.hear()


def test_what_is_gathered_is_told_and_stepped(client: Raw) -> None:
    client.say(
        native.Open(1, key(), "odd"),
        native.Gather(1, 1, 0, 4, "next_step"),
        msgspec.structs.replace(reset(2), acked=0),
        step(3, acked=0),
    )
    client.hear()
    made = client.hear()
    space = msgspec.msgpack.decode(made.observation)

    assert (space["kind"], space["dtype"], space["shape"]) == ("box", "<f8", [3])
    assert msgspec.msgpack.decode(made.action) == {
        "kind": "discrete", "n": 9, "start": 0, "dtype": "<i8"
    }  # fmt: skip
    assert results(client.hear()) == ([0.0] * 4, [0] * 4, [0] * 4, [0.0] * 4)
    assert client.hear().code == "invalid_action"  # it has no actions
    ended = told(client, step(4, NOTHING, END, NOTHING, NOTHING))
    assert results(ended) == ([1.0] * 4, [0, 1, 0, 0], [0] * 4, [1.0] * 4)
    assert (ended.reward, ended.terminated, ended.truncated, ended.metadata) == (
        None, False, False, b""
    )  # fmt: skip
    some = bytes([STEP, RESET, SKIP, STEP])
    after = told(client, step(5, NOTHING, NOTHING, NOTHING, NOTHING, todo=some))
    assert results(after) == ([1.0, 0.0, 0.0, 1.0], [0] * 4, [0] * 4, [2.0, 0.0, 1.0, 2.0])


def test_infos_and_failures_travel_beside_the_arrays(client: Raw) -> None:
    gather(client)
    told(client, reset(2))
    reply = told(client, step(3, NOTHING, INFO, RAISE, NOTHING))
    beside = blobs.told(reply.metadata)
    [[index, info]] = infos.decode_info(beside.infos)

    assert (index, info["text"], info["pair"]) == (1, "t", (1, np.float32(2)))
    assert [(f.index, f.code, f.message) for f in beside.failures] == [
        (2, "environment_failed", "trouble")
    ]
    assert results(reply)[2] == [0, 0, 1, 0]


def test_a_step_that_is_said_twice_is_carried_out_once(url: str, client: Raw) -> None:
    own = gather(client)
    told(client, reset(2))
    first = told(client, step(3, *[NOTHING] * 4))
    again = told(client, step(3, *[NOTHING] * 4))
    assert again == first
    other = told(client, step(3, *[END] * 4))
    assert (other.op, other.code) == (3, "out_of_order")
    client.say(step(4, *[NOTHING] * 4))
    client.cut()
    with Raw(url) as second:
        assert told(second, native.Resume(1, own)).op in (3, 4)
        assert results(told(second, step(4, *[NOTHING] * 4)))[3] == [2.0] * 4
        assert results(told(second, step(5, *[NOTHING] * 4)))[3] == [3.0] * 4


@pytest.mark.parametrize(
    "one",
    [
        (native.Gather(1, 1, 0, 4, "next_step"), native.Gather(1, 1, 0, 5, "next_step")),
        (native.Gather(1, 1, 0, 4, "next_step"), native.Gather(1, 1, 0, 4, "disabled")),
        (native.Gather(1, 1, 0, 4, "disabled"), native.Gather(1, 1, 0, 4, "disabled", b"\x80")),
        (native.Ask(1, 1, 0, "a", b""), native.Ask(1, 1, 0, "b", b"")),
        (native.Ask(1, 1, 0, "a", b""), native.Ask(1, 1, 0, "a", b"\x80")),
        (native.Ask(1, 1, 0, "a", b""), native.Ask(1, 1, 0, "a", b"", True)),
        (native.Ask(1, 1, 0, "a", b""), native.State(1, 1, 0)),
    ],
)
def test_another_call_under_a_known_number_is_refused(
    one: tuple[native.Numbered, native.Numbered],
) -> None:
    ledger = Ledger()
    assert ledger.take(one[0]) == (True, None)
    assert ledger.take(one[0]) == (False, None)
    with pytest.raises(OutOfOrder):
        ledger.take(one[1])


@pytest.mark.parametrize(
    ("request_of", "code"),
    [
        (lambda op: native.Step(1, op, op - 1, b""), "invalid_action"),
        (lambda op: native.Step(1, op, op - 1, STEPS.ljust(127, b"\0")), "invalid_action"),
        (lambda op: native.Step(1, op, op - 1, STEPS.ljust(2**20, b"\0")), "invalid_action"),
        (lambda op: step(op, *[NOTHING] * 4, todo=b"\1\3\1\1"), "invalid_action"),
        (lambda op: native.Step(1, op, op - 1, bytes(128), True), "usage"),
        (lambda op: native.Continue(1, op, op - 1), "usage"),
        (lambda op: native.State(1, op, op - 1), "usage"),
        (lambda op: native.Describe(1, op, op - 1), "usage"),
        (lambda op: native.Reset(1, op, op - 1, b""), "invalid_option"),
        (lambda op: native.Reset(1, op, op - 1, b"\x80"), "invalid_option"),
        (lambda op: reset(op, bytes([RESET] * 3)), "invalid_option"),
        (lambda op: reset(op, STEPS), "invalid_option"),
        (lambda op: reset(op, ALL, (1, 2)), "invalid_option"),
        (lambda op: native.Ask(1, op, op - 1, "__dict__", b""), "usage"),
        (lambda op: native.Ask(1, op, op - 1, "__class__", b""), "usage"),
        (lambda op: native.Ask(1, op, op - 1, OF_SOME + "__class__", b""), "usage"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_has_happened(
    client: Raw, request_of: Callable[[int], native.Numbered], code: str
) -> None:
    gather(client)
    told(client, reset(2))
    told(client, step(3, *[NOTHING] * 4))
    refused = told(client, request_of(4))

    assert refused.code == code
    assert results(told(client, step(5, *[NOTHING] * 4)))[3] == [2.0] * 4


def test_arguments_that_are_none_fail_in_the_environments_process(client: Raw) -> None:
    gather(client)
    assert told(client, native.Ask(1, 2, 1, "steps", b"\xc1")).code == "environment_failed"
    assert (
        told(client, native.Ask(1, 3, 2, "none of this name", b"")).code == "environment_failed"
    )

    assert isinstance(told(client, reset(4)), native.Observed)


def test_before_there_are_environments_nothing_can_be_done_with_them(client: Raw) -> None:
    client.say(native.Open(1, key(), "odd"))
    client.hear()
    assert told(client, native.Ask(1, 1, 0, "steps", b"")).code == "reset_needed"
    failed = told(client, native.Gather(1, 2, 1, 4, "next_step", b"\xc1"))
    assert failed.code == "environment_failed"
    assert told(client, step(3, *[NOTHING] * 4)).code == "reset_needed"
    assert told(client, reset(4)).code == "reset_needed"
    assert isinstance(told(client, native.Gather(1, 5, 4, 4, "next_step")), native.Gathered)

    assert isinstance(told(client, reset(6)), native.Observed)


def test_what_would_be_too_large_is_refused_and_can_be_asked_for_smaller(client: Raw) -> None:
    client.say(native.Open(1, key(), "odd"))
    client.hear()
    pixels = infos.encode_info({"observation": "pixels"})
    large = told(client, native.Gather(1, 1, 0, 6000, "next_step", pixels))
    assert (large.code, "over" in large.message) == ("usage", True)

    assert isinstance(
        told(client, native.Gather(1, 2, 1, 4, "next_step", pixels)), native.Gathered
    )


def test_a_session_of_one_environment_becomes_one_of_many_in_a_fresh_process(
    client: Raw,
) -> None:
    own = gather(client)
    told(client, reset(2))
    assert isinstance(told(client, native.Gather(1, 3, 2, 2, "disabled")), native.Gathered)
    two = bytes([RESET] * 2)

    assert len(told(client, reset(4, two)).payload) == 3 * 64
    assert own


def test_a_process_that_ends_is_told_and_gathered_again(client: Raw) -> None:
    gather(client)
    told(client, reset(2))
    lost = told(client, step(3, NOTHING, EXIT, NOTHING, NOTHING))
    assert (lost.code, lost.details["verdict"]) == ("worker_lost", "exited")
    assert told(client, step(4, *[NOTHING] * 4)).code == "reset_needed"
    assert isinstance(told(client, reset(5)), native.Observed)  # of all: in a fresh one

    assert results(told(client, step(6, *[NOTHING] * 4)))[3] == [1.0] * 4
    told(client, step(7, NOTHING, EXIT, NOTHING, NOTHING))
    some = bytes([RESET, RESET, SKIP, SKIP])
    assert told(client, reset(8, some)).code == "reset_needed"


def test_a_batch_is_cancelled_by_the_end_of_its_process(client: Raw) -> None:
    gather(client)
    told(client, reset(2))
    client.say(step(3, NOTHING, SLEEP, NOTHING, NOTHING), native.Cancel(1, 3))
    stopped = client.hear()

    assert (stopped.code, stopped.details["verdict"]) == ("cancelled", "cancelled")
    assert isinstance(told(client, reset(4)), native.Observed)


def test_a_deadline_is_for_a_batch(client: Raw) -> None:
    gather(client)
    told(client, reset(2))
    late = told(client, step(3, *[SLEEP] * 4))

    assert (late.code, late.details["limit"]) == ("deadline_exceeded", "step_s")


def test_it_is_billed_and_closed(client: Raw) -> None:
    gather(client)
    told(client, reset(2))
    client.say(step(3, *[SLEEP] * 4), native.Bill(1), native.Close(1))
    heard = [client.hear() for _ in range(3)]

    assert [type(reply) for reply in heard] == [native.Billed, native.Failed, native.Closed]
    assert heard[0].used["calls"] == 4  # Gather, Share, a reset and a step
    assert heard[1].code == "session_closed"


def test_two_processes_are_stepped_by_one_frame_and_answer_in_one(client: Raw) -> None:
    for session in (1, 2):
        client.say(
            native.Open(session, key(), "odd"),
            native.Gather(session, 1, 0, 4, "next_step"),
            native.Reset(session, 2, 0, blobs.encode(blobs.Resets(ALL))),
        )
        assert [type(client.hear()) for _ in range(3)][2] is native.Observed
    both = [
        step(3, *[NOTHING] * 4),
        msgspec.structs.replace(step(3, *[NOTHING] * 4), session=2),
    ]
    client.say(*both, group=1, first=2)

    assert {reply.session for reply in client.frame()} == {1, 2}
