"""Plays a case against an arena's hub, and judges what came of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from envhub import EmbeddedSession, EnvhubError, Session
from envhub.errors import RemoteProtocolError, ResetNeeded, WorkerError
from tests.fuzz.arena import Arena, peak, reset_peak
from tests.fuzz.cases import Case, Crowd, Die, Pass, Thread, as_data
from tests.fuzz.judge import CAUSES, Played, judge, word_for

PEAK_MIB = 448  # for one case: the longest frame, as bytes and copies of them
_WAIT_S = 60.0
_MOMENT_S = 0.5
_LOOKS, _LOOK_S = 50, 0.02  # at a process that is about to die
_BY_CODE = {"EXECUTION_ERROR": "environment_failed", "VALIDATION_ERROR": "invalid_action"}


def play(arena: Arena, case: Case) -> Played:
    """Play a case once. Complaints may leave the arena unusable: then get another."""
    arena.prepare(case.environment)
    played = Played(case)
    size = reset_peak()
    try:
        _SHELLS[case.where](arena, played)
    except Exception as error:
        played.complain(f"unjudged: {type(error).__name__}: {error}")
    if peak() - size > PEAK_MIB:
        played.complain(f"the hub grew by more than {PEAK_MIB} MiB")
    try:
        played.complaints += arena.complaints(case.environment)
    except Exception as error:
        played.complain(f"the hub does not answer: {error!r}")
    return played


# ---------------------------------------------------------------- the asynchronous API


def _in_session(arena: Arena, played: Played) -> None:
    arena.do(_attack(arena, played))


async def _attack(arena: Arena, played: Played) -> None:
    case = played.case
    session = await arena.hub.open(case.environment)
    try:
        await session.reset()
        armed = {"program": as_data(case.program), "when": case.call}
        life = (await session.step(armed)).observation["life"]
        pid = session.pid
        made: dict[str, Callable[[], Awaitable[Any]]] = {
            "step": lambda: session.step({}),
            "reset": session.reset,
            "state": session.state,
            "describe": session.describe,
            "close": session.aclose,
        }
        value: Any = None
        try:
            value = await made[case.call]()
            word = "accepted"
        except Exception as error:
            word = word_for(error)
        judge(played, word, value)
        if word == "RemoteProtocolError" and session.pid == pid and _lives(pid):
            played.complain("the process that broke the protocol was left alive")
        if case.call in ("step", "state") and word == "accepted":
            await _is_the_same(session, played, life)
        if case.call != "close":
            await _lives_on(session, played)
    finally:
        try:
            await session.aclose()
        except Exception as error:
            played.complain(f"closing: {type(error).__name__}")


async def _is_the_same(session: Session, played: Played, life: str) -> None:
    """A process that ends between two calls takes its episode with it, and that is said."""
    for _ in range(_LOOKS if _dies_later(played.case) else 1):
        try:
            said = (await session.step({"say": "still"})).observation
        except (WorkerError, RemoteProtocolError):  # the latter if what it said is none
            return
        except EnvhubError as error:
            played.complain(f"a loss between two calls was told as {type(error).__name__}")
            return
        if said.get("life", life) != life:
            played.complain("a loss between two calls was not told")
            return
        await asyncio.sleep(_LOOK_S)


async def _lives_on(session: Session, played: Played) -> None:
    for last in (False, True):
        with _afterwards(played, last=last):
            await session.reset()
            _says_on(played, (await session.step({"say": "on"})).observation)
            return


@contextmanager
def _afterwards(played: Played, *, last: bool) -> Iterator[None]:
    """What the process still has to say may cost one episode, and not the session."""
    try:
        yield
    except (WorkerError, RemoteProtocolError) as error:
        if last:
            played.complain(f"afterwards the session is lost: {error}")
    except ResetNeeded:
        played.complain("a loss between two calls was told as ResetNeeded")


def _says_on(played: Played, said: dict[str, Any]) -> None:
    if said.get("said") != "on":
        played.complain(f"afterwards the session said {said}")


# ---------------------------------------------------------------- the synchronous API


def _in_make(arena: Arena, played: Played) -> None:
    case = played.case
    session = EmbeddedSession(arena.background, case.environment)
    try:
        session.reset()
        session.step({"program": as_data(case.program), "when": case.call})
        pid = session.pid
        made: dict[str, Callable[[], Any]] = {
            "step": lambda: session.step({}),
            "reset": session.reset,
            "state": lambda: session.state,
            "close": session.close,
        }
        value: Any = None
        try:
            value = made[case.call]()
            word = "accepted"
        except Exception as error:
            word = word_for(error)
        judge(played, word, value)
        if word == "RemoteProtocolError" and session.pid == pid and _lives(pid):
            played.complain("the process that broke the protocol was left alive")
        if case.call != "close":
            _make_lives_on(session, played)
    finally:
        session.close()


def _make_lives_on(session: EmbeddedSession, played: Played) -> None:
    for last in (False, True):
        with _afterwards(played, last=last):
            session.reset()
            _says_on(played, session.step({"say": "on"}).observation)
            return


# ---------------------------------------------------------------- the front door


def _in_websocket(arena: Arena, played: Played) -> None:
    case = played.case
    url = f"ws://127.0.0.1:{arena.port}/envs/{case.environment}/ws"
    with connect(url, max_size=None, compression=None) as client:
        said = _said(client, "reset", {})
        program = {"program": as_data(case.program), "when": case.call}
        said = _said(client, "step", program)
        life = said["data"]["observation"]["life"]
        said = _said(client, case.call, None if case.call == "state" else {})
        judge(played, _word_of(said), said["data"])
        if case.call in ("step", "state") and said["type"] != "error":
            said = _still(client, played, life)
        for last in (False, True):
            if _word_of(said) == "remote_protocol":
                return  # and hangs up
            try:
                said = _said(client, "reset", {})
                if said["type"] == "observation":
                    said = _said(client, "step", {"say": "on"})
            except ConnectionClosed as error:
                if _word_of(said) not in ("remote_protocol", "session_closed"):
                    played.complain(f"the door hung up: {error}")
                return
            if said["type"] == "observation":
                if said["data"].get("observation", {}).get("said") != "on":
                    played.complain(f"afterwards the door said {said}")
                return
            if last or _word_of(said) not in (CAUSES["protocol"], CAUSES["deadline"]):
                played.complain(f"afterwards the door said {said}")


def _still(client: ClientConnection, played: Played, life: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for _ in range(_LOOKS if _dies_later(played.case) else 1):
        said = _said(client, "step", {"say": "still"})
        if said["type"] == "error":
            break
        if said["data"].get("observation", {}).get("life", life) != life:
            played.complain("a loss between two calls was not told")
            break
        time.sleep(_LOOK_S)
    return said


def _dies_later(case: Case) -> bool:
    threads = [i.program for i in case.program if isinstance(i, Thread)]
    return any(isinstance(i, Die) for program in threads for i in program)


def _said(client: ClientConnection, kind: str, data: dict[str, Any] | None) -> dict[str, Any]:
    """Ask the door, and read its one reply as strictly as one can.

    Raises:
        ConnectionClosed: it hung up.
        ValueError: its reply is none of the protocol's.
    """
    client.send(json.dumps({"type": kind} if data is None else {"type": kind, "data": data}))
    text = client.recv(_WAIT_S)
    pairs = json.loads(text, object_pairs_hook=list)
    if [name for name, _ in pairs] != ["type", "data"]:
        raise ValueError(f"the envelope has {[name for name, _ in pairs]}")
    said: dict[str, Any] = json.loads(text)
    if said["type"] not in ("observation", "state", "error"):
        raise ValueError(f"a reply of type {said['type']}")
    if not isinstance(said["data"], dict):
        raise ValueError("its data is no object")
    return said


def _word_of(said: dict[str, Any]) -> str:
    if said["type"] != "error":
        return "accepted"
    data = said["data"]
    return str(data.get("cause") or _BY_CODE.get(data["code"], data["code"]))


def _in_http(arena: Arena, played: Played) -> None:
    case = played.case
    client = http.client.HTTPConnection("127.0.0.1", arena.port, timeout=_WAIT_S)
    action = {"program": as_data(case.program), "when": "now"}
    body, headers = json.dumps({"action": action}), {"Content-Type": "application/json"}
    client.request("POST", f"/envs/{case.environment}/step", body, headers)
    response = client.getresponse()
    text = response.read()
    client.close()
    if response.status == 200:
        value = json.loads(text)
        if not {"observation", "reward", "done"} <= set(value):
            played.complain(f"the reply has {sorted(value)}")
        judge(played, "accepted", value)
    else:
        cause = response.getheader("envhub-cause", f"status {response.status}")
        judge(played, cause, None)


# ---------------------------------------------------------------- at import


def _in_zygote(arena: Arena, played: Played) -> None:
    """Open sessions of a hostile zygote; then of the same environment, grown honest."""
    case, name = played.case, played.case.environment
    plan = {"when": case.call, "program": as_data(case.program), "since": case.since}
    try:
        arena.program_of(name).write_text(json.dumps(plan))
        arena.end_worker(name)
        words = [arena.do(_visit(arena, played)) for _ in range(2)]
        if words == ["accepted"] * 2:  # then more of them cost little, and leaks add up
            words += [arena.do(_visit(arena, played)) for _ in range(3)]
        if not any(isinstance(i, Pass | Crowd) for i in case.program):
            played.complaints += arena.unsettled(name)  # while that zygote lives
    finally:
        arena.program_of(name).unlink()
    played.word = words[0]
    if case.expect is not None and words[0] not in case.expect:
        played.complain(f"it came to {words}, and not to {case.expect}")
    arena.end_worker(name)
    again = arena.do(_visit(arena, played))
    if again != "accepted":
        played.complain(f"grown honest, its environment came to {again}")


async def _visit(arena: Arena, played: Played) -> str:
    word = "accepted"
    try:
        async with arena.hub.session(played.case.environment) as session:
            await session.reset()
            await session.step({})
    except Exception as error:
        word = word_for(error)
        if word.startswith("untyped"):
            played.complain(word)
    return word


def _lives(pid: int) -> bool:
    """Whether a process is there, and has not been killed a moment ago."""
    try:
        ended = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        return not select.select([ended], [], [], _MOMENT_S)[0]
    finally:
        os.close(ended)


_SHELLS: dict[str, Callable[[Arena, Played], None]] = {
    "session": _in_session,
    "make": _in_make,
    "websocket": _in_websocket,
    "http": _in_http,
    "zygote": _in_zygote,
}
