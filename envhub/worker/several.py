"""Environments of Gymnasium's, stepped one by one within a batch.

What a batch comes to is what `SyncVectorEnv` makes of it; which one steps and which one resets
is the hub's to say. An environment that raises ends its own episode and nobody else's.
"""

from __future__ import annotations

import math
import mmap
import time
from array import array
from collections.abc import Callable
from typing import Any

import gymnasium

from envhub.errors import DeadlineExceeded, EnvironmentFailed, UsageError
from envhub.wire import infos as wire
from envhub.wire.messages import Failed, Gather
from envhub.wire.vector import (
    OF_SOME,
    RESET,
    STEP,
    Ask,
    Batched,
    Failure,
    Gathered,
    ResetBatch,
    Share,
    StepBatch,
)
from envhub.worker import shapes
from envhub.worker.answer import failed
from envhub.worker.asked import of_some


class Several:
    """Hosts them.

    Args:
        found: their class, or what names it.
        request: how many, and made with what.

    Raises:
        UsageError: it is nothing of Gymnasium's, or they differ in their spaces.
    """

    def __init__(self, found: type, request: Gather) -> None:
        options = wire.decode_info(request.options)
        make = _maker(found)
        self._envs = [make(**options) for _ in range(request.count)]
        self._count = request.count
        self._first = first = self._envs[0]
        for env in self._envs:
            for name in ("observation_space", "action_space"):
                if getattr(env, name) != getattr(first, name):
                    raise UsageError(f"the environments differ in their `{name}`")
        self._steps: list[Callable[[Any], Any]] = []
        self._bind()
        self._observed: list[Any] = [None] * request.count
        self._has_unseen = True
        self._same_step = False

    def _bind(self) -> None:
        self._steps = [env.step for env in self._envs]

    def gathered(self, op: int) -> Gathered:
        """Return what they are."""
        first = self._first
        return shapes.gathered(op, first, first.action_space, first.observation_space)

    def share(self, memory: mmap.mmap, request: Share) -> None:
        """Take the memory."""
        layout, first = request.layout, self._first
        self._puts = [
            shapes.putter(first.observation_space, shapes.arrays(memory, turn), self._count)
            for turn in layout.observations
        ]
        self._actions = shapes.Actions(first.action_space, memory, layout.actions, self._count)
        self._todo, rewards, self._ends = (
            shapes.raw(memory, region) for region in (layout.todo, layout.rewards, layout.ends)
        )
        self._rewards = rewards.cast("d")
        self._same_step = request.autoreset == "same_step"
        self._seeds = request.seeds
        self._episode_s = request.episode_s
        self._since = [0.0] * self._count  # when each episode began, if that counts

    # ------------------------------------------------------------ batches

    def reset(self, request: ResetBatch) -> Batched:
        """Reset those that are marked. Raises what one of them does."""
        options = wire.decode_info(request.options) if request.options else None
        told: list[Any] = []
        for i, what in enumerate(self._todo.tolist()):
            if what == RESET:
                info = self._begin(i, request.seeds[i], options)
                if info:
                    told.append((i, wire.sendable(info)))
        self._rewards[:] = array("d", bytes(8 * self._count))
        self._ends[:] = bytes(2 * self._count)
        return self._batched(request, told, [])

    def _begin(self, i: int, seed: int | None = None, options: Any = None) -> Any:
        """Reset one; return its info."""
        if (kept := self._seeds[i]) is not None:
            self._seeds[i] = None
            seed = kept if seed is None else seed
        self._observed[i], info = self._envs[i].reset(seed=seed, options=options)
        if self._episode_s:
            self._since[i] = time.monotonic()
        return info

    def step(self, request: StepBatch) -> Batched:
        """Step those that are marked, and reset those. Raises what a reset does."""
        count, observed, same_step = self._count, self._observed, self._same_step
        isfinite, allowed_s = math.isfinite, self._episode_s
        rewards, ends, cuts = [0.0] * count, bytearray(count), bytearray(count)
        told: list[Any] = []
        failures: list[Failure] = []
        batch = zip(range(count), self._todo.tolist(), self._actions.taken(), self._steps,
                    strict=True)  # fmt: skip
        for i, what, action, step in batch:
            if what == STEP:
                try:
                    seen, reward, end, cut, info = step(action)
                    if not isfinite(reward):
                        raise ValueError(f"the reward must be finite, and is {reward}")
                    if end or cut:
                        ends[i], cuts[i] = bool(end), bool(cut)
                    elif allowed_s and time.monotonic() - self._since[i] > allowed_s:
                        cuts[i] = True
                        failures.append(_overdue(i, allowed_s))
                    rewards[i] = reward
                    observed[i] = seen
                except Exception as error:
                    ends[i], cuts[i], info = False, True, {}
                    failures.append(_failure(i, error))
                if same_step and (ends[i] or cuts[i]):
                    last = wire.as_sent(observed[i]), wire.sendable(info)
                    told.append((i, wire.sendable(self._begin(i)), *last))
                elif info:
                    told.append((i, wire.sendable(info)))
            elif what == RESET:
                info = self._begin(i)
                if info:
                    told.append((i, wire.sendable(info)))
        self._rewards[:] = array("d", rewards)
        self._ends[:] = ends + cuts
        return self._batched(request, told, failures)

    def _batched(
        self, request: ResetBatch | StepBatch, told: list[Any], failures: list[Failure]
    ) -> Batched:
        if self._has_unseen:
            self._fill_unseen()
        self._puts[request.turn](self._observed)
        infos = wire.encode_sendable(told) if told else b""
        return Batched(request.op, infos, tuple(failures))

    def _fill_unseen(self) -> None:
        """Put something in place of what was never reset: nobody is shown it."""
        some = next(seen for seen in self._observed if seen is not None)
        self._observed = [some if seen is None else seen for seen in self._observed]
        self._has_unseen = False

    # ------------------------------------------------------------ attributes

    def ask(self, request: Ask) -> bytes:
        """Return an attribute of each, or what it returns when called; or set it."""
        arguments, named = wire.decode_info(request.given)
        if request.name.startswith(OF_SOME):
            return of_some(self._envs, request.name.removeprefix(OF_SOME), *arguments)
        if request.assign:
            for env, value in zip(self._envs, arguments, strict=True):
                env.set_wrapper_attr(request.name, value)
            self._bind()
            return wire.encode_info([])
        values = []
        for env in self._envs:
            found = env.get_wrapper_attr(request.name)
            values.append(found(*arguments, **named) if callable(found) else found)
        return wire.encode_sendable([wire.as_sent(value) for value in values])

    def close(self) -> None:
        """Close them."""
        for env in self._envs:
            env.close()


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


def _overdue(index: int, allowed_s: float) -> Failure:
    said = f"an episode whose time is over: {allowed_s:g} s were allowed"
    return Failure(index, DeadlineExceeded.code, said, "")


def _failure(index: int, error: Exception) -> Failure:
    said: Failed = failed(0, error)
    code = said.code or EnvironmentFailed.code
    return Failure(index, code, said.message, said.traceback)
