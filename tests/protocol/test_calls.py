"""What the native protocol promises, seen by a client that breaks and repeats things."""

from __future__ import annotations

from dataclasses import fields

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from envhub import Bill
from envhub.wire import native
from tests.protocol.raw import Raw, key, packed, unpacked
from tests.serving import serving


def opened(client: Raw, session: int = 1, environment: str = "chain") -> bytes:
    """Open a session and begin an episode: call 1."""
    own = key()
    client.say(native.Open(session, own, environment), reset(session))
    assert isinstance(client.hear(), native.Opened)
    assert isinstance(client.hear(), native.Observed)
    return own


def reset(session: int = 1, op: int = 1, acked: int = 0) -> native.Reset:
    return native.Reset(session, op, acked, packed(seed=7))


def step(op: int, text: str = "a", *, session: int = 1, **fields: float) -> native.Step:
    return native.Step(session, op, op - 1, packed(text=text, **fields))


def steps(reply: native.Observed) -> int:
    count: int = unpacked(reply.payload)["steps"]
    return count


def test_a_call_sent_twice_is_carried_out_once(url: str) -> None:
    with Raw(url) as client:
        opened(client)
        client.say(step(2), step(2))
        once = client.hear()
        client.say(step(2))
        again = client.hear()
        client.say(step(3))

        assert once == again
        assert steps(client.hear()) == 2


def test_the_bill_has_what_was_used_by_name(url: str) -> None:
    with Raw(url) as client:
        opened(client)
        client.say(native.Bill(1))
        before = client.hear()
        client.say(step(2))
        assert isinstance(client.hear(), native.Observed)
        client.say(native.Bill(1))
        after = client.hear()

        assert isinstance(before, native.Billed)
        assert isinstance(after, native.Billed)
        assert set(before.used) == {field.name for field in fields(Bill)}
        assert (before.used["calls"], after.used["calls"]) == (1, 2)
        assert 0 < before.used["sent_bytes"] < after.used["sent_bytes"]


def test_a_gap_is_an_error_and_changes_nothing(url: str) -> None:
    with Raw(url) as client:
        opened(client)
        client.say(native.Step(1, 3, 1, packed(text="a")))
        refused = client.hear()
        client.say(step(2))

        assert (refused.op, refused.code) == (3, "out_of_order")
        assert steps(client.hear()) == 1


def test_a_session_goes_on_over_a_new_connection(url: str) -> None:
    first = Raw(url)
    own = opened(first)
    first.say(step(2))
    before = first.hear()
    slow = native.Step(1, 3, 1, packed(text="a", takes_s=0.2))
    first.say(slow)
    first.cut()
    with Raw(url) as second:
        again_slow = msgspec.structs.replace(slow, session=9)
        second.say(native.Resume(9, own), step(2, session=9), again_slow)
        again = second.hear()
        answers = [second.hear(), second.hear()]
        second.say(step(4, session=9))

        assert (again.session, again.environment) == (9, "chain")
        assert again.op in (2, 3)
        assert answers[0] == msgspec.structs.replace(before, session=9)
        assert [steps(answer) for answer in (*answers, second.hear())] == [1, 2, 3]


def test_who_knows_the_key_takes_the_session_over(url: str) -> None:
    with Raw(url) as first, Raw(url) as second:
        own = opened(first)
        second.say(native.Resume(3, own), step(2, session=3))
        lost = first.hear()
        first.say(step(2))
        refused = first.hear()

        assert isinstance(second.hear(), native.Opened)
        assert steps(second.hear()) == 1
        assert (lost.op, lost.code) == (0, "session_closed")
        assert (refused.op, refused.code) == (2, "session_closed")


def test_a_session_has_one_number_on_a_connection(url: str) -> None:
    with Raw(url) as client:
        own = opened(client)
        client.say(native.Resume(2, own), step(2), step(2, session=2))
        told = [client.hear() for _ in range(4)]

        assert [(type(reply), reply.session) for reply in told] == [
            (native.Failed, 1),
            (native.Opened, 2),
            (native.Failed, 1),
            (native.Observed, 2),
        ]
        assert (told[0].op, told[0].code) == (0, "session_closed")
        assert (told[2].op, told[2].code) == (2, "session_closed")


def test_an_open_that_comes_again_opens_no_second_session(url: str) -> None:
    with Raw(url) as first, Raw(url) as second:
        own = opened(first)
        second.say(native.Open(1, own, "chain"))
        found = second.hear()
        second.say(step(2))

        assert found.op == 1
        assert steps(second.hear()) == 1


def test_nobody_has_a_session_of_another_key(url: str) -> None:
    with Raw(url) as client:
        client.say(native.Resume(1, key()))
        refused = client.hear()

        assert (refused.session, refused.op, refused.code) == (1, 0, "session_lost")


def test_replies_of_a_group_come_together(url: str) -> None:
    sessions = (1, 2, 3)
    with Raw(url) as client:
        for session in sessions:
            opened(client, session)
        client.say(*(step(2, session=s) for s in sessions), group=1, first=3)

        assert sorted(reply.session for reply in client.frame()) == list(sessions)


def test_the_first_of_a_group_do_not_wait_for_the_last(url: str) -> None:
    with Raw(url) as client:
        for session in (1, 2, 3):
            opened(client, session)
        slow = step(2, session=1, takes_s=1.0)
        client.say(slow, step(2, session=2), step(2, session=3), group=1, first=2)
        ready = {reply.session for reply in client.frame()}
        client.say(step(3, session=2), group=1, first=1)
        rest = [client.hear().session, client.hear().session]

        assert ready == {2, 3}
        assert rest == [2, 1]


def test_a_closed_session_answers_what_waits_and_is_gone(url: str) -> None:
    with Raw(url) as client:
        own = opened(client)
        client.say(step(2, takes_s=5.0), step_unacked(3), native.Close(1))
        replies = [client.hear(), client.hear(), client.hear()]
        client.say(native.Resume(1, own))

        assert [getattr(reply, "code", "") for reply in replies] == ["session_closed"] * 2 + [
            ""
        ]
        assert replies[2] == native.Closed(1)
        assert client.hear().code == "session_lost"


def test_a_session_that_is_closed_while_it_is_opened_answers_what_waits() -> None:
    one = ("--max-sessions", "1", "--drain-s", "0")
    with serving(*one, "envs/echo") as address, Raw(address) as client:
        opened(client, environment="echo")
        client.say(native.Open(2, key(), "echo"), reset(2), native.Close(2))
        replies = [client.hear(), client.hear()]

        assert (replies[0].op, replies[0].code) == (1, "session_closed")
        assert replies[1] == native.Closed(2)


def step_unacked(op: int) -> native.Step:
    return native.Step(1, op, 1, packed(text="b"))


@pytest.mark.parametrize(
    "environment",
    ["nobody", "", "../echo", "broken"],
    ids=["unknown", "none", "path", "broken"],
)
def test_what_cannot_be_opened_says_why(url: str, environment: str) -> None:
    codes = {"broken": "worker_start_failed"}
    with Raw(url) as client:
        client.say(native.Open(1, key(), environment), reset())
        refused = [client.hear(), client.hear()]
        opened(client)

        assert {reply.op for reply in refused} == {0, 1}
        [reason] = [reply for reply in refused if reply.op == 0]
        assert reason.code == codes.get(environment, "unknown_environment")


def test_a_session_that_is_not_there_is_not_called(url: str) -> None:
    with Raw(url) as client:
        client.say(step(1), native.Close(2), native.Cancel(3, 1))

        assert [client.hear().code for _ in range(3)] == ["session_closed"] * 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\x93\x00\x00\x91\x92\xa5close",
        b"\xdd\xff\xff\xff\xff",
        b"\x90" * 99,
        b"\x93\x00\x00\x91\x92\xd9\xc8" + "é".encode() * 100 + b"\x01",
    ],
)
def test_bytes_that_are_no_frame_end_the_connection_and_not_its_sessions(
    url: str, data: bytes
) -> None:
    client = Raw(url)
    own = opened(client)
    client.say_bytes(data)
    with pytest.raises(ConnectionClosed) as caught:
        client.frame()
    with Raw(url) as other:
        other.say(native.Resume(1, own), step(2))

        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
        assert isinstance(other.hear(), native.Opened)
        assert steps(other.hear()) == 1


def test_a_lost_process_is_an_error_and_a_reset_begins_anew(url: str) -> None:
    with Raw(url) as client:
        opened(client, environment="probe")
        client.say(native.Step(1, 2, 1, packed(code="import os; os._exit(3)")))
        lost = client.hear()
        client.say(native.Step(1, 3, 2, packed(code="result = {}")), reset(1, 4, 2))
        needed, begun = client.hear(), client.hear()

        assert (lost.code, lost.details["verdict"]) == ("worker_lost", "exited")
        assert needed.code == "reset_needed"
        assert isinstance(begun, native.Observed)


def test_a_call_that_runs_is_stopped_and_its_process_with_it(url: str) -> None:
    with Raw(url) as client:
        opened(client, environment="probe")
        client.say(native.Step(1, 2, 1, packed(code="import time; time.sleep(60)")))
        client.say(native.Cancel(1, 2))
        stopped = client.hear()
        client.say(reset(1, 3, 2))

        assert (stopped.op, stopped.code) == (2, "cancelled")
        assert isinstance(client.hear(), native.Observed)


def test_a_call_that_has_not_begun_never_does(url: str) -> None:
    with Raw(url) as client:
        opened(client)
        client.say(step(2, takes_s=0.3), step_unacked(3), native.Cancel(1, 3))
        stopped, first = client.hear(), client.hear()
        client.say(native.Step(1, 4, 3, packed(text="c")))

        assert (stopped.op, stopped.code) == (3, "cancelled")
        assert [steps(first), steps(client.hear())] == [1, 2]


def test_what_is_over_is_not_stopped(url: str) -> None:
    with Raw(url) as client:
        opened(client)
        client.say(native.Cancel(1, 1), native.Cancel(1, 99), step(2))

        assert steps(client.hear()) == 1


def test_a_handshake_without_the_protocols_name_is_refused(url: str) -> None:
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(f"ws{url.removeprefix('http')}/v1/connect", proxy=None),
    ):
        pass

    assert caught.value.response.status_code == 400
    assert b"envhub.v1" in (caught.value.response.body or b"")


def test_who_does_not_come_back_in_time_has_lost_the_session() -> None:
    with serving("--envs", "tests/protocol/envs", "--env", "chain", "--grace-s", "0") as url:
        client = Raw(url)
        own, found = opened(client), native.Opened
        while found is native.Opened:  # the server may not have seen the cut yet
            client.cut()
            client = Raw(url)
            client.say(native.Resume(1, own))
            reply = client.hear()
            found = type(reply)
        client.close()

        assert reply.code == "session_lost"
