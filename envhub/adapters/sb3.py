"""A vector environment as Stable-Baselines3's algorithms take it: its `VecEnv`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces as kinds
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from stable_baselines3.common.vec_env import VecEnv as _VecEnv
from stable_baselines3.common.vec_env.util import obs_space_info

from envhub.adapters.asking import of_some
from envhub.adapters.gymnasium import VectorEnv
from envhub.adapters.packing import Apart
from envhub.errors import EnvironmentFailed, UsageError
from envhub.wire import infos as wire

Indices = int | Iterable[int] | None


class VecEnv(_VecEnv):
    """Behaves as Stable-Baselines3's `DummyVecEnv`, with its environments in sandboxes.

        venv = VecEnv(envhub.make_vec("gym:CartPole-v1", 8, autoreset_mode="same_step"))

    `envhub.make_sb3_vec` does both. Episodes follow each other in the same step; the same seeds
    and actions give the same trajectories as `DummyVecEnv`, to the bit.

    What ends a process, or raises in `step`, ends the episodes it was in: `done`, with
    `TimeLimit.truncated` True, a reward of 0.0 and the typed cause in `info["envhub_error"]`.

    What crosses the boundary is plain data. So `get_attr` of a method, or of an object, is an
    error, and `env_is_wrapped` compares the names of classes.

    Args:
        vector_env: of the mode "same_step". It is this object's from here on.

    Attributes:
        vector_env: as given.

    Raises:
        UsageError: it is of another mode, or one of an author's vectorised class.
        NotImplementedError: Stable-Baselines3 does not support its observations.
    """

    def __init__(self, vector_env: VectorEnv) -> None:
        mode = vector_env.metadata["autoreset_mode"]
        if mode is not AutoresetMode.SAME_STEP:
            raise UsageError(
                f"Stable-Baselines3's environments reset in the same step, these {mode.value}",
                hint='make_vec(…, autoreset_mode="same_step"), or make_sb3_vec(…)',
            )
        if vector_env._crew.is_whole:
            raise UsageError("a vectorised class is not made of environments of its own")
        obs_space_info(vector_env.single_observation_space)  # refuses what it cannot have
        self.vector_env = vector_env
        vector_env._crew.kind = Apart
        action_space = vector_env.single_action_space
        self._listed = isinstance(action_space, kinds.Dict | kinds.Tuple)
        self._is_stepping = False
        super().__init__(vector_env.num_envs, vector_env.single_observation_space, action_space)
        metadata = {k: v for k, v in vector_env.metadata.items() if k != "autoreset_mode"}
        self.metadata = metadata

    # ------------------------------------------------------------ episodes

    def reset(self) -> Any:
        """Begin an episode in each environment, with the seeds and options set before."""
        if self._is_stepping:
            self.step_wait()  # and nobody is told of it
        each = [wire.encode_info(options, "options") for options in self._options]
        if len(each) != self.num_envs:
            raise UsageError(f"{len(each)} options for {self.num_envs} environments")
        env = self.vector_env
        env._check_idle()
        seeds = env._seeds(self._seeds)
        for encoded in dict.fromkeys(each):
            mask = np.array([one == encoded for one in each])
            given = b"" if encoded == _NO_OPTIONS else encoded
            batch = cast(Apart, env._crew.reset(mask, seeds, given, seeds))
            for at in np.flatnonzero(mask).tolist():
                self.reset_infos[at] = batch.told.get(at, {})
        env._begun = True
        self._reset_seeds()
        self._reset_options()
        return self._seen(batch)

    def step_async(self, actions: Any) -> None:
        """Begin a step of each environment."""
        if self._listed and isinstance(actions, list | tuple):
            batch: Any = create_empty_array(self.action_space, self.num_envs)
            actions = concatenate(self.action_space, actions, batch)
        env = self.vector_env
        env._check_idle()
        env._check_begun(env._crew.whom)
        env._crew.begin_steps(env._crew.everybody, env._take(actions))
        env._sent += env._crew.whom
        self._is_stepping = True

    def step_wait(self) -> tuple[Any, Any, Any, list[dict[str, Any]]]:
        """Wait for the steps; return observations, rewards, whether done, and infos."""
        if not self._is_stepping:
            raise UsageError("`step_wait` without a `step_async`")
        self._is_stepping = False
        env = self.vector_env
        env._sent.clear()
        batch = cast(Apart, env._crew.finish_steps(env._crew.whom))
        cut = (batch.truncated & ~batch.terminated).tolist()
        infos: list[dict[str, Any]] = []
        for at, is_cut in enumerate(cut):
            info = batch.told.get(at, {})
            if at in batch.last:
                begun, (seen, info) = info, batch.last[at]
                if "envhub_error" in begun:
                    info["envhub_error"] = begun.pop("envhub_error")
                self.reset_infos[at] = begun
                info["terminal_observation"] = seen
            info["TimeLimit.truncated"] = is_cut
            infos.append(info)
        dones = batch.terminated | batch.truncated
        return self._seen(batch), batch.rewards.astype(np.float32), dones, infos

    def _seen(self, batch: Apart) -> Any:
        return batch.seen(self.observation_space)

    def close(self) -> None:
        """End the processes."""
        self.vector_env.close()

    # ------------------------------------------------------------ what is in them

    def has_attr(self, attr_name: str) -> bool:
        """Whether every environment has it."""
        return all(self._ask("call", "has_wrapper_attr", [attr_name], {}, None))

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """Return an attribute of these environments.

        Raises:
            AttributeError: they have none of that name.
            UsageError: it is no plain data, such as a method, and stays where it is.
        """
        return self._ask("read", attr_name, (), {}, indices)

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set an attribute of these environments, of the outermost wrapper of each.

        So it is in `DummyVecEnv`. `env_method("set_wrapper_attr", name, value)` sets it where
        it is.

        Raises:
            UsageError: it is no plain data.
        """
        self._ask("assign", attr_name, (value,), {}, indices)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of these environments.

        Raises:
            AttributeError: they have none of that name.
            EnvironmentFailed: it raised.
            UsageError: what it is given is no plain data, or what it returns. It was called
                in the latter case.
        """
        return self._ask("call", method_name, method_args, method_kwargs, indices)

    def env_is_wrapped(self, wrapper_class: type, indices: Indices = None) -> list[bool]:
        """Return whether these environments have a wrapper of a class of that name."""
        name = f"{wrapper_class.__module__}.{wrapper_class.__qualname__}"
        return [name in found for found in self._ask("wrappers", "", (), {}, indices)]

    def _ask(
        self, how: Any, name: str, given: Sequence[Any], named: dict[str, Any], indices: Indices
    ) -> list[Any]:
        every, env = range(self.num_envs), self.vector_env
        chosen = [every[i] for i in self._get_indices(indices)]
        env._check_idle()
        try:
            if len(set(chosen)) < len(chosen):  # as often as they are named
                return [of_some(env._crew, how, name, {i}, given, named)[i] for i in chosen]
            found = of_some(env._crew, how, name, set(chosen), given, named)
        except EnvironmentFailed as error:
            if how in ("call", "read") and not self.has_attr(name):
                raise AttributeError(str(error)) from error
            raise
        return [found[i] for i in chosen]

    # ------------------------------------------------------------ pictures

    def get_images(self) -> Sequence[Any]:
        """Return a picture of each environment, if its `render_mode` is "rgb_array"."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"there are pictures with `render_mode` 'rgb_array', not {self.render_mode!r}",
                stacklevel=2,
            )
            return [None] * self.num_envs
        return self.env_method("render")


_NO_OPTIONS = wire.encode_info({})
