"""make_vec elsewhere over connections that are cut, and to hubs that lie."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import envhub
from envhub import VectorEnv
from envhub.client.native import tending, threadline
from envhub.errors import ConnectionLost, EnvhubError, RemoteProtocolError, UsageError
from envhub.wire import native, vector
from envhub.wire.vector import Box, Discrete
from tests.adapters.playing import ENVS, assert_same
from tests.adapters.test_vector_losses import NOTHING, causes
from tests.protocol import test_hostile_hub
from tests.protocol.proxy import beside
from tests.protocol.proxy import cutting_beside as cutting
from tests.serving import serving

SERVED = ("--envs", str(ENVS), "--drain-s", "0")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(*SERVED) as url:
        yield url


def play(url: str) -> list[Any]:
    """Two processes, and all that they show."""
    env = envhub.make_vec("classic", 4, hub=url, processes=2, autoreset_mode="same_step")
    log: list[Any] = [env.reset(seed=5)]
    log += [env.step([0, 1, 1, 1]) for _ in range(25)]
    env.set_attr("gravity", 5.0)
    log += [env.get_attr("gravity"), env.step([1, 1, 1, 1])]
    env.close()
    return log


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(after=st.lists(st.integers(0, 6000), min_size=1, max_size=6))
def test_a_program_cannot_tell_that_its_connection_was_cut(url: str, after: list[int]) -> None:
    undisturbed = play(url)
    with cutting(url, [700 + after[0], *after[1:]]) as (cut_url, _, _):
        disturbed = play(cut_url)

    assert_same(disturbed, undisturbed)


def test_a_hub_that_was_restarted_has_lost_the_episodes_and_training_goes_on() -> None:
    with serving(*SERVED) as first, serving(*SERVED) as second, cutting(first) as cut:
        url, cutter, call = cut
        env = envhub.make_vec("odd", 4, hub=url, processes=2)
        env.reset()
        env.step([NOTHING] * 4)
        call(cutter.move, second)
        call(cutter.cut)
        truncated, infos = env.step([NOTHING] * 4)[3:]

        assert truncated.all()
        assert causes(infos) == ["SessionLost"] * 4
        assert env.step([NOTHING] * 4)[1].tolist() == [0.0] * 4
        assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
        env.close()


def test_between_the_calls_sessions_are_kept_over_a_cut(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tending, "_TEND_S", 0.01)
    with cutting(url) as (cut_url, cutter, call):
        env = envhub.make_vec("odd", 4, hub=cut_url)
        env.reset()
        line = env._crew.members[0].line
        before = line._dialled
        call(cutter.cut)
        while line._dialled in (before, None):
            pass  # nobody calls, and it is connected again
        assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
        env.close()


def test_without_a_hub_calls_are_given_up_and_go_on_with_the_next(url: str) -> None:
    with cutting(url) as (cut_url, cutter, call):
        env = envhub.make_vec("odd", 4, hub=envhub.connect(cut_url, reconnect_s=0.2))
        env.reset()
        call(cutter.refuse, True)
        call(cutter.cut)
        truncated, infos = env.step([NOTHING] * 4)[3:]
        assert truncated.all()
        assert causes(infos) == ["ConnectionLost"] * 4
        with pytest.raises(ConnectionLost):
            env.step([NOTHING] * 4)
        call(cutter.refuse, False)

        assert env.step([NOTHING] * 4)[1].tolist() == [0.0] * 4
        assert env.step([NOTHING] * 4)[1].tolist() == [1.0] * 4
        env.close()


# ---------------------------------------------------------------- hubs that lie

Answering = Callable[[native.Request], "list[native.Reply] | bytes | int"]
ACTION = vector.encode_space(Discrete(2, 0, "<i8"))
SEEN = Box("<f4", (2,), b"\0\0\0\0", b"\0\0\x80?")


@contextmanager
def pretending(answering: Answering) -> Iterator[str]:
    """Hold a hub that says what a test wants said: replies, bytes, or a close code."""
    with beside(test_hostile_hub.pretending(lambda request, _: answering(request))) as (url, _):
        yield url


def lying(
    observation: bytes = vector.encode_space(SEEN), **lies: Any
) -> Callable[[native.Request], Any]:
    """Return what answers as a hub would, but for its lies, by the name of a request."""

    def answer(request: native.Request) -> Any:
        kind = type(request).__name__
        if kind in lies:
            return lies[kind](request)
        match request:
            case native.Open(session=session) | native.Resume(session=session):
                return [native.Opened(session, "x", "1", 0, 60.0, {"step_s": 10.0})]
            case native.Gather(session=session, op=op):
                return [native.Gathered(session, op, ACTION, observation, b"\x80", None)]
            case native.Reset() | native.Step():
                return [observed(request, bytes(192))]
            case native.Close(session=session):
                return [native.Closed(session)]
        return []

    return answer


def observed(request: native.Reset | native.Step, payload: bytes, metadata: bytes = b"") -> Any:
    return native.Observed(
        request.session, request.op, payload, None, False, False, metadata, False, ""
    )


def venv(url: str) -> VectorEnv:
    return envhub.make_vec("x", 2, hub=envhub.connect(url, reconnect_s=0.2))


def test_a_hub_that_tells_the_truth_is_understood() -> None:
    with pretending(lying()) as url:
        env = venv(url)
        assert env.reset()[0].tolist() == [[0.0, 0.0]] * 2
        assert env.step([0, 1])[1].tolist() == [0.0, 0.0]
        env.close()


@pytest.mark.parametrize(
    "space",
    [
        b"\xc1",
        vector.encode_space(Box("<f4", (2**30, 2**30), b"\0\0\0\0", b"\0\0\x80?")),
        vector.encode_space(Box("|O", (2,), b"\0\0\0\0", b"\0\0\x80?")),
        vector.encode_space(Box("<f4", (3,), b"\0" * 8, b"\0" * 8)),
        vector.encode_space(vector.Tuple((SEEN,) * 1000)),
    ],
)
def test_spaces_that_are_none_or_too_large_are_refused(space: bytes) -> None:
    with pretending(lying(space)) as url:
        with pytest.raises((RemoteProtocolError, UsageError)):
            venv(url)


@pytest.mark.parametrize(
    "lie",
    [
        lambda request: [observed(request, b"")],
        lambda request: [observed(request, bytes(191))],
        lambda request: [observed(request, bytes(193))],
        lambda request: [observed(request, b"\xff" * 192)],  # rewards that are no numbers
        lambda request: [observed(request, bytes(192), b"\xc1")],
        lambda request: [observed(request, bytes(192), msgspec.msgpack.encode([b"\xc1", []]))],
        lambda request: [native.Finished(request.session, request.op)],
        lambda request: [native.Read(request.session, request.op, b"")],
        lambda request: b"\xc1",
        lambda request: 1002,
        lambda request: 1009,
    ],
)
def test_a_reply_that_is_none_ends_the_episodes_and_is_named(lie: Answering) -> None:
    with pretending(lying(Step=lie)) as url:
        env = venv(url)
        env.reset()
        truncated, infos = env.step([0, 1])[3:]

        assert truncated.all()
        assert set(causes(infos)) <= {"RemoteProtocolError", "EnvironmentFailed"}
        env.close()


def test_what_nobody_asked_for_is_nothing() -> None:
    def more(request: Any) -> list[native.Reply]:
        old = native.Step(request.session, request.op - 1, 0, b"")
        other = native.Step(9, request.op, 0, b"")
        own = observed(request, bytes(192))
        wrong = [observed(one, b"\xff" * 9) for one in (old, other)]
        return [*wrong, native.Billed(request.session, {}), own, own]

    with pretending(lying(Step=more)) as url:
        env = venv(url)
        env.reset()
        for _ in range(3):
            assert not env.step([0, 1])[3].any()
        env.close()


def test_a_hub_that_hangs_up_on_everybody_is_given_up() -> None:
    with pretending(lying(Step=lambda request: 1011)) as url:
        env = venv(url)
        env.reset()
        infos = env.step([0, 1])[4]

        assert causes(infos) == ["ConnectionLost"] * 2
        env.close()


def test_a_hub_that_says_nothing_is_asked_whether_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stepping(env: VectorEnv) -> None:
        with suppress(EnvhubError):
            env.step([0, 1])

    monkeypatch.setattr(threadline, "_PING_S", 0.05)
    said: list[native.Request] = []

    def keep(request: native.Request) -> list[native.Reply]:
        said.append(request)
        return []

    with pretending(lying(Step=keep)) as url:
        env = venv(url)
        env.reset()
        stuck = threading.Thread(target=stepping, args=(env,))
        stuck.start()
        stuck.join(1.0)

        assert stuck.is_alive()  # its answers to pings keep it
        assert len(said) == 1
        env._crew.members[0].line.close()  # who waits is told
        stuck.join()
