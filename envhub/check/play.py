"""Episodes, as they were seen: what was sent, what came, and where two of them differ."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Literal

import msgspec

from envhub.check.actions import Actions
from envhub.check.plain import DIGEST, plain
from envhub.errors import (
    CapacityError,
    EnvhubError,
    RemoteProtocolError,
    WorkerError,
    WorkerStartFailed,
)
from envhub.hub.session import Session
from envhub.wire import arrays, calls
from envhub.wire.messages import Observed

Form = Literal["msgpack", "json"]
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
_LONGEST = 100  # characters of a value that a difference shows
# for people and logs, and the client's own name for the episode: not a part of what happens
_NOT_COMPARED = ("metadata", "episode_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """One call and its answer.

    Args:
        call: "reset", "step" or "state".
        sent: the action, or the options; plain data.
        answer: as JSON would have it: "observation", "reward", "done" and "truncated";
            a state; or "error" and "message".
        elapsed_s: how long it took.
        length: of the answer's payload, in bytes.
        error: what was raised; None for an answer.
    """

    call: str
    sent: Any
    answer: dict[str, Any]
    elapsed_s: float = 0.0
    length: int = 0
    error: EnvhubError | None = None


@dataclass(slots=True)
class Episode:
    """One episode, from its reset to its end or to where it was left."""

    seed: int | None
    moments: list[Moment] = field(default_factory=list)

    @property
    def lost(self) -> bool:
        """Whether it cannot go on: its process ended, or it could not begin."""
        last = self.moments[-1] if self.moments else None
        return last is not None and last.error is not None and (
            isinstance(last.error, WorkerError) or last.call == "reset"
        )  # fmt: skip

    @property
    def done(self) -> bool:
        """Whether the environment has said so."""
        return any(moment.answer.get("done") for moment in self.moments)

    def errors(self, call: str = "") -> list[Moment]:
        """Return the calls that raised, of one kind or of all."""
        return [m for m in self.moments if m.error and call in ("", m.call)]


async def play(
    session: Session,
    actions: Actions,
    *,
    form: Form,
    seed: int | None,
    steps: int,
    number: int = 0,
    begun: Callable[[], Awaitable[None]] | None = None,
) -> Episode:
    """Play an episode, and read the state at its end. Errors of the environment are answers.

    Args:
        session: on which.
        actions: what to send.
        form: how it is sent, and answered.
        seed: of the reset; None sends none.
        steps: at most.
        number: of the episode, for the actions.
        begun: awaited after the reset.

    Raises:
        CapacityError: the hub has no place, or is closing.
        WorkerStartFailed: there is no process for it.
    """
    episode = Episode(seed)
    options: dict[str, Any] = {"episode_id": "check"}
    if seed is not None:
        options["seed"] = seed
    episode.moments.append(await reset(session, options, form))
    if begun is not None:
        await begun()
    for step in range(steps):
        if episode.lost or episode.done:
            break
        episode.moments.append(await take(session, actions.at(step, number), form))
    if not episode.lost:
        episode.moments.append(await read(session, form))
    return episode


async def reset(session: Session, options: dict[str, Any], form: Form) -> Moment:
    """Reset, and return what came."""
    data = calls.options(None, None, options) if form == "msgpack" else encoded(options)
    return await _observe("reset", options, form, lambda: session.reset_raw(data, form))


async def take(session: Session, action: Any, form: Form) -> Moment:
    """Take a step, and return what came."""
    data = calls.action(action) if form == "msgpack" else encoded(action)
    return await _observe("step", action, form, lambda: session.step_raw(data, form))


async def read(session: Session, form: Form) -> Moment:
    """Read the state, and return what came."""
    began = time.perf_counter()
    try:
        payload = await session.state_raw(form)
        elapsed_s = time.perf_counter() - began
        return Moment("state", None, _decoded(payload, form), elapsed_s, len(payload))
    except (CapacityError, WorkerStartFailed):
        raise
    except EnvhubError as error:
        return _error("state", None, error, time.perf_counter() - began)


def encoded(value: Any) -> bytes:
    """Return JSON, as OpenEnv's clients write it."""
    return json.dumps(value).encode()


async def _observe(
    call: str, sent: Any, form: Form, ask: Callable[[], Awaitable[Observed]]
) -> Moment:
    began = time.perf_counter()
    try:
        observed = await ask()
        elapsed_s = time.perf_counter() - began
        answer = _answer(observed, form)
    except (CapacityError, WorkerStartFailed):
        raise
    except EnvhubError as error:
        return _error(call, sent, error, time.perf_counter() - began)
    return Moment(call, sent, answer, elapsed_s, len(observed.payload))


def _answer(observed: Observed, form: Form) -> dict[str, Any]:
    answer = {
        "observation": _decoded(observed.payload, form),
        "reward": observed.reward,
        "done": observed.terminated or observed.truncated,
        "truncated": observed.truncated,
        "metadata": {},
    }
    if form == "msgpack":
        answer["metadata"] = _decoded(observed.metadata, form)
        if not isinstance(answer["observation"], dict) or _is_digest(answer["observation"]):
            answer["observation"] = {"observation": answer["observation"]}  # as in JSON
    else:
        answer["observation"] = answer["observation"].get("observation")
    return answer


def _decoded(payload: bytes, form: Form) -> Any:
    try:
        if form == "msgpack":
            return plain(arrays.decode(payload))
        found = json.loads(payload)
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        raise RemoteProtocolError(f"not {form}: {error}") from None
    if not isinstance(found, dict):
        raise RemoteProtocolError(f"a `{type(found).__name__}`, no mapping")
    return found


def _error(call: str, sent: Any, error: EnvhubError, elapsed_s: float) -> Moment:
    message = _ADDRESS.sub("0x…", str(error))
    return Moment(call, sent, {"error": error.code, "message": message}, elapsed_s, 0, error)


# ---------------------------------------------------------------- where two differ


def differences(one: Episode, other: Episode, names: tuple[str, str]) -> tuple[str, ...]:
    """Return where two episodes part, the first of it first; () when they are the same.

    Args:
        one: an episode.
        other: another, with the same actions.
        names: of the two, such as ("alone", "beside others").
    """
    found: list[str] = []
    for at, (a, b) in enumerate(zip_longest(one.moments, other.moments)):
        if a is None or b is None:
            longer = names[1] if a is None else names[0]
            found.append(f"{longer} goes on after {at - 1} steps, and the other does not")
            break
        label = f"step {at}" if a.call == "step" else a.call
        found += [
            f"{label}: {path}: {_brief(x)} {names[0]}, {_brief(y)} {names[1]}"
            for path, x, y in _apart(a.answer, b.answer, "$")
        ]
        if found:
            break
    return tuple(found[:5])


_NOTHING = object()


def _apart(a: Any, b: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(a, dict) and isinstance(b, dict) and _is_digest(a) == _is_digest(b):
        for key in dict.fromkeys([*a, *b]):
            if key not in _NOT_COMPARED:
                yield from _apart(a.get(key, _NOTHING), b.get(key, _NOTHING), f"{path}.{key}")
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for at, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _apart(x, y, f"{path}[{at}]")
    elif _is_digest(a) != _is_digest(b):  # a large array, and the list that JSON has for it
        shapes = (_shape(a), _shape(b))
        if shapes[0] != shapes[1]:
            yield f"{path}.shape", *shapes
    elif a is not b and (type(a) is not type(b) or a != b):
        yield path, a, b


def _is_digest(value: Any) -> bool:
    return isinstance(value, dict) and DIGEST in value


def _shape(value: Any) -> list[int]:
    if _is_digest(value):
        return list(value["shape"])
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _brief(value: Any) -> str:
    text = "nothing" if value is _NOTHING else f"`{json.dumps(value, ensure_ascii=False)}`"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 4]}...`"
