"""An author's own vectorised class: one object that steps many environments at once.

Gymnasium calls what makes one a `vector_entry_point`. Who is reset when is its own affair, as
its metadata say; only in a fresh process are all of them reset first.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from envhub.errors import UsageError
from envhub.wire import infos as wire
from envhub.wire.messages import Gather
from envhub.wire.vector import RESET, Ask, Batched, Gathered, ResetBatch, Share, StepBatch
from envhub.worker import shapes

Made = VectorEnv[Any, Any, Any]


class Whole:
    """Hosts it.

    Args:
        found: the class of ours that names it.
        request: how many environments, and made with what.

    Raises:
        UsageError: there is none, or it is not what its maker was asked for.
    """

    def __init__(self, found: type, request: Gather) -> None:
        options = wire.decode_info(request.options)
        self._env = env = _maker(found)(num_envs=request.count, **options)
        if not isinstance(env, VectorEnv):
            raise UsageError(f"a `{type(env).__name__}` is no gymnasium.vector.VectorEnv")
        if env.num_envs != request.count:
            raise UsageError(f"made {env.num_envs} environments, asked for {request.count}")
        if not isinstance(env.metadata.get("autoreset_mode"), AutoresetMode):
            raise UsageError(
                f"`{type(env.unwrapped).__name__}` does not say how episodes follow each other:"
                ' its metadata["autoreset_mode"] is no gymnasium.vector.AutoresetMode'
            )
        self._count = request.count
        self._begun = False  # there was a reset in this process

    def gathered(self, op: int) -> Gathered:
        """Return what they are."""
        env = self._env
        return shapes.gathered(
            op, env, env.single_action_space, env.single_observation_space,
            autoreset_mode=env.metadata["autoreset_mode"].value,
        )  # fmt: skip

    def share(self, memory: mmap.mmap, request: Share) -> None:
        """Take the memory."""
        layout = request.layout
        self._seen = [tuple(shapes.arrays(memory, turn)) for turn in layout.observations]
        self._actions = shapes.Actions(
            self._env.single_action_space, memory, layout.actions, self._count
        )
        self._todo, self._rewards, self._ends = shapes.arrays(
            memory, (layout.todo, layout.rewards, layout.ends)
        )
        self._seeds = request.seeds

    def reset(self, request: ResetBatch) -> Batched:
        """Reset those that are marked; all of them, where none has ever been."""
        options = wire.decode_info(request.options) if request.options else None
        marked = self._todo == RESET
        if self._begun and not marked.all():
            options = {**(options or {}), "reset_mask": marked}
        seeds = request.seeds
        return self._begin(request, seeds[0] if len(seeds) == 1 else seeds, options)

    def _begin(self, request: ResetBatch | StepBatch, seed: Any, options: Any) -> Batched:
        if not self._begun and seed is None:
            seed = self._seeds[0]
        seen, info = self._env.reset(seed=seed, options=options)
        self._begun = True
        self._rewards[:] = 0.0
        self._ends[:] = 0
        return self._batched(request, seen, info)

    def step(self, request: StepBatch) -> Batched:
        """Step all of them; in a fresh process, reset them."""
        if not self._begun:
            return self._begin(request, None, None)
        seen, rewards, ends, cuts, info = self._env.step(self._actions.together())
        shapes.fill(self._rewards, rewards, "the rewards")
        if not all(map(math.isfinite, self._rewards.tolist())):
            raise ValueError("the rewards must be finite")
        shapes.fill(self._ends[0], ends, "`terminated`")
        shapes.fill(self._ends[1], cuts, "`truncated`")
        return self._batched(request, seen, info)

    def _batched(self, request: ResetBatch | StepBatch, seen: Any, info: Any) -> Batched:
        leaves = shapes.flat(self._env.single_observation_space, seen)
        for leaf, found in zip(self._seen[request.turn], leaves, strict=True):
            shapes.fill(leaf, found, "the observations")
        return Batched(request.op, wire.encode_sendable(wire.sendable(info)) if info else b"")

    def ask(self, request: Ask) -> bytes:
        """Return an attribute of it, or what it returns when called; or set it."""
        arguments, named = wire.decode_info(request.given)
        if request.assign:
            setattr(self._env, request.name, *arguments)
            return wire.encode_info([])
        found = getattr(self._env, request.name)
        value = found(*arguments, **named) if callable(found) else found
        return wire.encode_sendable([wire.as_sent(value)])

    def close(self) -> None:
        """Close it."""
        self._env.close()


def _maker(found: type) -> Callable[..., Any]:
    make = getattr(found, "gymnasium_vector_env", None)
    if callable(make):
        return make  # type: ignore[no-any-return]
    raise UsageError(
        f"`{found.__name__}` has no vectorised class",
        hint="an environment of one's own names it by a static method `gymnasium_vector_env`;"
        " without `vectorization_mode` its environments are stepped one by one",
    )
