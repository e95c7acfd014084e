"""Judges what came of a case, by the rules of `permitted`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from envhub import EnvhubError
from envhub.errors import RemoteProtocolError, WorkerError
from envhub.wire import calls
from envhub.wire.messages import Described, Observed, StateRead
from envhub_sandbox import SandboxError
from tests.fuzz import permitted
from tests.fuzz.cases import Case

COMPARED_BYTES = 1 << 20
# what the door says for what the other shells say
CAUSES = {
    "protocol": "worker_lost", "exited": "worker_lost", "signalled": "worker_lost",
    "worker_lost": "worker_lost", "cancelled": "cancelled", "deadline": "deadline_exceeded",
    "output_limit": "limit_exceeded", "RemoteProtocolError": "remote_protocol",
    "EnvironmentFailed": "environment_failed", "InvalidAction": "invalid_action",
    "InvalidOption": "invalid_option", "ResetNeeded": "reset_needed", "UsageError": "usage",
    "AgentSandboxFailed": "agent_sandbox_failed",
}  # fmt: skip


class Played:
    """What came of a case: a word for the outcome, and every complaint."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.word = ""
        self.complaints: list[str] = []

    def complain(self, text: str) -> None:
        """Note that something is not as it should be."""
        self.complaints.append(text)


def word_for(error: Exception) -> str:
    """Return the word for an error that a caller got."""
    if isinstance(error, WorkerError):
        return error.verdict or type(error).__name__
    if isinstance(error, (EnvhubError, SandboxError)):
        return type(error).__name__
    return f"untyped: {error!r}"


def judge(played: Played, word: str, value: Any) -> None:
    """Note the outcome, and complain if it is not a right one."""
    case = played.case
    played.word = word
    right = case.expect if case.expect is not None else permitted.permitted(case)
    if word.startswith("untyped"):
        played.complain(word)
    elif right is not None:
        said = {CAUSES.get(w, w) for w in right} if _is_door(case) else set(right)
        if word not in said:
            played.complain(f"it came to `{word}`, and not to {sorted(said)}")
    elif word == "accepted" or not word.endswith("Error"):
        return
    if word == "accepted":
        _compare(played, value)


def _compare(played: Played, value: Any) -> None:
    """An accepted reply is the one that was sent, whole and unchanged."""
    case, acts = played.case, permitted.acted(played.case)
    if acts.is_race or len(acts.stream) > COMPARED_BYTES or case.call == "close":
        return
    with suppress(RemoteProtocolError):
        reply = permitted.first_reply(case, acts)
        expected: Any = None
        match reply:
            case Observed() if case.where == "http":
                expected = value["observation"]
                value = json.loads(reply.payload).get("observation")
            case Observed() | StateRead() if case.where == "websocket":
                expected = json.loads(reply.payload)
            case Observed():
                expected = calls.result(reply)
            case StateRead():
                expected = calls.state(reply.payload)
            case Described():
                expected = reply
            case _:
                return
        if _shown(expected) != _shown(value):
            played.complain(
                f"accepted was {_shown(value)[:200]}, sent {_shown(expected)[:200]}"
            )
    if case.call != "describe" and not acts.stream and value is None:
        played.complain("an honest answer without a value")


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except (OverflowError, SystemError):
        return "an array that numpy itself cannot show"


def _is_door(case: Case) -> bool:
    return case.where in ("websocket", "http")
