"""What the protocol permits a case to come to: a second reading of the rules, as a function.

Outcomes are words: "accepted"; the verdict of a lost process ("protocol", "deadline"…); else
the class of the error. None stands for: any typed outcome, for a race decides it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from envhub import errors
from envhub.errors import RemoteProtocolError
from envhub.wire import calls
from envhub.wire.framing import HEADER, MAX_FRAME_BYTES
from envhub.wire.messages import (
    REPLIES,
    Described,
    Failed,
    Observed,
    Reply,
    StateRead,
    decode,
)
from tests.fuzz.cases import OP, Case, Crowd, Die, Hang, Mute, Pass, Send, Sleep, Thread, Urgent

STEP_S = {True: 0.6, False: 20.0}  # hurried or not: every deadline of a call
OUTPUT_MAX_BYTES = 16 * 1024 * 1024
_PIPE_BYTES = 128 * 1024  # what may be under way beside it
_ONE_READ = 64 * 1024
_KIND: dict[str, type[Reply]] = {
    "step": Observed, "reset": Observed, "state": StateRead, "describe": Described,
}  # fmt: skip
_FAILURES: dict[str, type[errors.EnvhubError]] = {
    kind.code: kind
    for kind in (
        errors.InvalidAction, errors.InvalidOption, errors.ResetNeeded, errors.UsageError,
        errors.AgentSandboxFailed,
    )
}  # fmt: skip


@dataclass
class Acts:
    """What a program amounts to, seen from the hub."""

    stream: bytearray = field(default_factory=bytearray)
    printed: int = 0
    slow_s: float = 0.0
    ends: str = ""  # "exited" or "signalled"; "" when the honest answer follows
    hung_up: bool = False
    is_mute: bool = False
    asked_broker: bool = False
    is_race: bool = False


def permitted(case: Case) -> frozenset[str] | None:
    """Return the outcomes that are right for a case that is no zygote's."""
    acts = acted(case)
    if case.call == "close":
        return frozenset({"accepted"})  # who closes is not told how badly that went
    if acts.is_race:
        return None
    words = _of_stream(case, acts)
    if words is None:
        return None
    if acts.ends and len(acts.stream) > _ONE_READ:
        words.add(acts.ends)
    if acts.slow_s > STEP_S[case.hurried] * 0.8:
        words.add("deadline")
    if acts.printed > OUTPUT_MAX_BYTES - _PIPE_BYTES:
        words.add("output_limit")
    if acts.printed > OUTPUT_MAX_BYTES + _PIPE_BYTES:
        words = {"output_limit"}
    if acts.asked_broker:
        words.add("protocol")
    if acts.ends and case.hurried:
        words.add("deadline")  # the end of a pid namespace takes its time on a busy machine
    return frozenset(words)


def acted(case: Case) -> Acts:
    """Return what a case's program does, up to its end."""
    acts = Acts()
    for instruction in case.program:
        match instruction:
            case Send() | Pass() if instruction.to == "broker":
                acts.asked_broker = True
            case Send() if instruction.to == "output":
                acts.printed += len(instruction.data)
            case Send():
                chunks = len(instruction.data) // (instruction.chop or 1 << 20) + 1
                acts.slow_s += instruction.pause_s * chunks
                if not acts.hung_up:
                    acts.stream += instruction.data
            case Pass():
                if not acts.hung_up:
                    acts.stream += instruction.data
            case Sleep(s=s):
                acts.slow_s += s
            case Die(how=how) if how != "kill":  # process 1 of a namespace cannot kill itself
                acts.ends = "exited" if how == "exit" else "signalled"
                return acts
            case Hang(what="hub"):
                acts.hung_up = True
            case Mute():
                acts.is_mute = True
            case Thread() | Crowd() | Urgent():
                acts.is_race = True
            case _:
                pass
    return acts


def first_reply(case: Case, acts: Acts) -> Reply | None:
    """Return what the hub should take for the reply; None while no frame is whole.

    Raises:
        RemoteProtocolError: the first frame is none, or not the reply to this call.
    """
    if len(acts.stream) < HEADER.size:
        return None
    (length,) = HEADER.unpack_from(acts.stream)
    if length > MAX_FRAME_BYTES:
        raise RemoteProtocolError("too long")
    if len(acts.stream) < HEADER.size + length:
        return None
    reply = decode(REPLIES, bytes(acts.stream[HEADER.size : HEADER.size + length]))
    if reply.op != number(case):
        raise RemoteProtocolError("another call's")
    return reply


def number(case: Case) -> int:
    """Return the number of the call that is attacked."""
    return 1 if case.where == "http" else OP


def _of_stream(case: Case, acts: Acts) -> set[str] | None:
    ending = {acts.ends} if acts.ends else set()
    if acts.hung_up:
        ending.add("exited")  # its honest side finds nobody to answer
    try:
        reply = first_reply(case, acts)
    except RemoteProtocolError:
        return {"protocol", *ending}
    if reply is not None:
        words = of_reply(case, reply)
        (length,) = HEADER.unpack_from(acts.stream)
        is_more = len(acts.stream) > HEADER.size + length
        if is_more or not (acts.ends or acts.is_mute):
            # more was sent, or the honest answer follows: it may come in the same read
            words |= {"protocol", *ending}
        return words
    if acts.ends:
        return ending
    if acts.hung_up:
        return {"protocol", "exited"}
    if acts.is_mute:
        return {"deadline"}
    if acts.stream:
        return None  # the honest answer is taken for the rest of the frame
    return {"accepted"}


def of_reply(case: Case, reply: Reply) -> set[str]:
    """Return what a well-formed reply with the right number comes to."""
    is_door = case.where in ("websocket", "http")
    if isinstance(reply, Failed) and reply.code == errors.InvalidAction.code and is_door:
        return {"InvalidAction", "RemoteProtocolError"}  # its detail is JSON, or is none
    if isinstance(reply, Failed):
        return {_FAILURES.get(reply.code, errors.EnvironmentFailed).__name__}
    if not isinstance(reply, _KIND[case.call]):
        return {"RemoteProtocolError"}
    if is_door:
        return _of_json(case, reply)
    try:
        if isinstance(reply, Observed):
            calls.result(reply)
        elif isinstance(reply, StateRead):
            calls.state(reply.payload)
    except RemoteProtocolError:
        return {"RemoteProtocolError"}
    return {"accepted"}


def _of_json(case: Case, reply: Reply) -> set[str]:
    """Clients read with `json.loads`; the door may refuse more than that does, never less."""
    assert isinstance(reply, Observed | StateRead)
    try:
        found = json.loads(reply.payload)
    except (ValueError, RecursionError):
        return {"RemoteProtocolError"}
    if not isinstance(found, dict):
        return {"RemoteProtocolError"}
    return {"accepted", "RemoteProtocolError"}
