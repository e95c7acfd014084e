"""Many environments in one session process: a batch in, a batch out, through shared memory.

The environments are Gymnasium's. What a batch comes to is what `SyncVectorEnv` makes of it,
which one step resets is the hub's to say; but an environment that raises ends its own episode
and nobody else's.
"""

from __future__ import annotations

import math
import mmap
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
from gymnasium.vector.utils import batch_space, concatenate, iterate

from envhub.errors import EnvironmentFailed, LocalProtocolError, UsageError
from envhub.wire import infos as wire
from envhub.wire.framing import FrameBuffer, encode_frame
from envhub.wire.messages import Close, Closed, Failed, Gather, Message, decode, encode
from envhub.wire.vector import (
    ANSWERED,
    ASKED,
    RESET,
    STEP,
    VECTOR_REQUESTS,
    Answered,
    Ask,
    Batched,
    Failure,
    Gathered,
    ResetBatch,
    Share,
    Shared,
    StepBatch,
    VectorRequest,
)
from envhub.worker import shapes
from envhub.worker.answer import Answering, failed

_READ_BYTES = 64 * 1024
_SPIN_S = 50e-6  # a wake-up costs as much
_SOON_S = 150e-6  # what waits for less, a wake-up included, might have been spun for
_NUMBER = struct.Struct("<Q")


def serve(hub: socket.socket, answering: Answering, gather: Gather) -> None:
    """Answer the hub until it hangs up."""
    hosted = _Hosted(answering)
    request: Gather | VectorRequest = gather
    frames = _Frames(hub)
    soon = True  # the next request came soon after the last reply
    while True:
        try:
            reply = hosted.answer(request, frames.descriptor())
        except BaseException as error:
            reply = failed(request.op, error)
        sys.stdout.flush()
        hub.sendall(_framed(reply, answering.frame_bytes))
        hosted.answered(request.op)
        if isinstance(request, Close):
            return
        since = time.perf_counter()
        if soon:
            hosted.spin(request.op, since + _SPIN_S)
        frame = frames.next()
        soon = time.perf_counter() - since < _SOON_S
        if frame is None:
            return
        request = decode(VECTOR_REQUESTS, frame)


def _framed(reply: Message, most_bytes: int) -> bytes:
    try:
        return encode_frame(encode(reply), max_bytes=most_bytes)
    except LocalProtocolError as error:
        number: int = reply.op  # type: ignore[attr-defined]
        return encode_frame(encode(failed(number, ValueError(f"the infos: {error}"))))


class _Frames:
    """The hub's frames, and the one descriptor that comes with them."""

    def __init__(self, hub: socket.socket) -> None:
        self._hub = hub
        self._buffer = FrameBuffer()
        self._handed: list[int] = []

    def next(self) -> bytes | bytearray | None:
        """Wait for a frame; None when the hub has hung up."""
        while (frame := self._buffer.next_frame()) is None:
            data, handed, _, _ = socket.recv_fds(self._hub, _READ_BYTES, 1)
            self._handed += handed
            if not data:
                return None
            self._buffer.receive_data(data)
        return frame

    def descriptor(self) -> int:
        """Return the descriptor that came, which is its taker's to close; -1 for none."""
        return self._handed.pop() if self._handed else -1


class _Hosted:
    """The environments of this process.

    Args:
        answering: knows their class.
    """

    def __init__(self, answering: Answering) -> None:
        self._class = answering.environment_class
        self._envs: list[gymnasium.Env[Any, Any]] = []
        self._steps: list[Callable[[Any], Any]] = []
        self._memory: mmap.mmap | None = None
        self._same_step = False
        self._observed: list[Any] = []

    def answer(self, request: Gather | VectorRequest, descriptor: int) -> Message:
        """Return the reply to one request. Raises what an environment does in a reset."""
        match request:
            case StepBatch():
                return self._step(request)
            case ResetBatch():
                return self._reset(request)
            case Gather():
                return self._gather(request)
            case Share():
                return self._share(request, descriptor)
            case Ask():
                return self._ask(request)
            case Close():
                for env in self._envs:
                    env.close()
                return Closed(request.op)

    def answered(self, op: int) -> None:
        """Say so where the hub looks before it waits."""
        if self._memory is not None:
            _NUMBER.pack_into(self._memory, ANSWERED, op)

    def spin(self, op: int, until: float) -> None:
        """Look for the next request for a moment, so that it need not wake us up."""
        memory = self._memory
        if memory is None:
            return
        while _NUMBER.unpack_from(memory, ASKED)[0] == op and time.perf_counter() < until:
            os.sched_yield()

    # ------------------------------------------------------------ once

    def _gather(self, request: Gather) -> Gathered:
        options = wire.decode_info(request.options)
        make = _maker(self._class)
        self._envs = [make(**options) for _ in range(request.count)]
        first = self._envs[0]
        for env in self._envs:
            for name in ("observation_space", "action_space"):
                if getattr(env, name) != getattr(first, name):
                    raise UsageError(f"the environments differ in their `{name}`")
        self._observed = [None] * request.count
        self._bind()
        mode = first.render_mode
        return Gathered(
            request.op,
            shapes.describe(first.action_space),
            shapes.describe(first.observation_space),
            wire.encode_sendable(wire.sendable(dict(first.metadata))),
            mode if isinstance(mode, str) else None,
        )

    def _bind(self) -> None:
        self._steps = [env.step for env in self._envs]

    def _share(self, request: Share, descriptor: int) -> Shared:
        if descriptor < 0 or self._memory is not None or not self._envs:
            raise LocalProtocolError("a Share out of turn")
        layout, first = request.layout, self._envs[0]
        try:
            memory = mmap.mmap(descriptor, layout.size_bytes)
        finally:
            os.close(descriptor)
        one = first.observation_space
        self._seen = [shapes.nested(one, shapes.arrays(memory, r)) for r in layout.observations]
        self._one = one
        self._action_space = batch_space(first.action_space, len(self._envs))
        self._actions = tuple(shapes.arrays(memory, layout.actions))
        regions = (layout.todo, layout.rewards, layout.terminated, layout.truncated)
        todo, self._rewards, self._terminated, self._truncated = shapes.arrays(memory, regions)
        self._todo = todo
        self._same_step = request.autoreset == "same_step"
        self._memory = memory
        return Shared(request.op)

    # ------------------------------------------------------------ batches

    def _reset(self, request: ResetBatch) -> Batched:
        options = wire.decode_info(request.options) if request.options else None
        told: list[Any] = []
        todo = self._todo.tolist()
        for i, (env, seed) in enumerate(zip(self._envs, request.seeds, strict=True)):
            if todo[i] == RESET:
                self._observed[i], info = env.reset(seed=seed, options=options)
                if info:
                    told.append((i, wire.sendable(info)))
        self._rewards[:] = 0.0
        self._terminated[:] = self._truncated[:] = False
        return self._batched(request, told, [])

    def _step(self, request: StepBatch) -> Batched:
        todo = self._todo.tolist()
        observed, same_step, isfinite = self._observed, self._same_step, math.isfinite
        rewards, ends, cuts = [], [], []
        told: list[Any] = []
        failures: list[Failure] = []
        batch = zip(todo, self._taken_actions(), self._steps, strict=True)
        for i, (what, action, step) in enumerate(batch):
            reward, end, cut = 0.0, False, False
            if what == STEP:
                try:
                    seen, reward, end, cut, info = step(action)
                    reward = float(reward)
                    if not isfinite(reward):
                        raise ValueError(f"the reward must be finite, and is {reward}")
                    observed[i] = seen
                except Exception as error:
                    reward, end, cut, info = 0.0, False, True, {}
                    failures.append(_failure(i, error))
                if same_step and (end or cut):
                    last = wire.as_sent(observed[i]), wire.sendable(info)
                    observed[i], info = self._envs[i].reset()
                    told.append((i, wire.sendable(info), *last))
                elif info:
                    told.append((i, wire.sendable(info)))
            elif what == RESET:
                observed[i], info = self._envs[i].reset()
                if info:
                    told.append((i, wire.sendable(info)))
            rewards.append(reward)
            ends.append(bool(end))
            cuts.append(bool(cut))
        self._rewards[:] = rewards
        self._terminated[:] = ends
        self._truncated[:] = cuts
        return self._batched(request, told, failures)

    def _taken_actions(self) -> Iterator[Any]:
        # a copy: an environment may keep its action, and this memory changes under it
        taken = iter([array.copy() for array in self._actions])
        return iterate(self._action_space, shapes.nested(self._envs[0].action_space, taken))

    def _batched(
        self, request: ResetBatch | StepBatch, told: list[Any], failures: list[Failure]
    ) -> Batched:
        if any(seen is None for seen in self._observed):
            self._fill_unseen()
        concatenate(self._one, self._observed, self._seen[request.turn])
        infos = wire.encode_sendable(told) if told else b""
        return Batched(request.op, infos, tuple(failures))

    def _fill_unseen(self) -> None:
        """Put something in place of what was never reset: nobody is shown it."""
        some = next(seen for seen in self._observed if seen is not None)
        self._observed = [some if seen is None else seen for seen in self._observed]

    # ------------------------------------------------------------ attributes

    def _ask(self, request: Ask) -> Answered:
        arguments, named = wire.decode_info(request.given)
        if request.assign:
            for env, value in zip(self._envs, arguments, strict=True):
                env.set_wrapper_attr(request.name, value)
            self._bind()
            return Answered(request.op, wire.encode_info([]))
        values = []
        for env in self._envs:
            found = env.get_wrapper_attr(request.name)
            values.append(found(*arguments, **named) if callable(found) else found)
        sent = [wire.as_sent(value) for value in values]
        return Answered(request.op, wire.encode_sendable(sent))


def _maker(found: type) -> Callable[..., gymnasium.Env[Any, Any]]:
    """Return what makes one environment: the class, or what it names.

    Raises:
        UsageError: it is nothing of Gymnasium's.
    """
    make = getattr(found, "gymnasium_env", None)
    if callable(make):
        return make  # type: ignore[no-any-return]
    if issubclass(found, gymnasium.Env):
        return found
    raise UsageError(
        f"`{found.__name__}` cannot be vectorised: it is no gymnasium.Env, and has no"
        " `gymnasium_env` that makes one"
    )


def _failure(index: int, error: Exception) -> Failure:
    said: Failed = failed(0, error)
    code = said.code or EnvironmentFailed.code
    return Failure(index, code, said.message, said.traceback)
