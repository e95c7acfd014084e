"""Environments of Gymnasium's, hosted as our own: found by their id, made by `gymnasium.make`.

The module that has the environment is imported in the zygote. The environment itself is made
in the session's process, and only then are its spaces known.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from typing import Any

import gymnasium
from gymnasium import error as errors
from gymnasium import spaces as kinds
from gymnasium.envs.registration import EnvSpec

from envhub import spaces
from envhub.authoring.schema import ModelCodec, Signature, Told
from envhub.authoring.types import State
from envhub.errors import InvalidOption, UsageError
from envhub.wire import arrays
from envhub.wire.infos import is_text, noted

_OPTIONS = ("seed", "options", "episode_id")


def load(entry: str, options: dict[str, Any]) -> tuple[type, Signature, bool]:
    """Import what an id names; return a class of ours for it, its types, and no loop.

    Args:
        entry: the id, as `gymnasium.make` takes it.
        options: keyword arguments for that.

    Raises:
        LookupError: there is no such id; the message has those that are near.
        ImportError: what has it is not installed here.
    """
    spec = _found(entry)
    _preload(spec)
    _, _, plain = entry.rpartition(":")
    made = _Made(spec, options)
    words = f"{plain}, as Gymnasium {gymnasium.__version__} has it"
    own = {"made": made, "__doc__": words, "gymnasium_env": made.another}
    if spec.vector_entry_point is not None:
        own["gymnasium_vector_env"] = made.together
    hosting = type(plain, (_Hosted,), own)
    signature = Signature(_Actions(made), _Observations(made), ModelCodec(State), _OPTIONS, ())
    return hosting, signature, False


def _found(entry: str) -> EnvSpec:
    module, _, plain = entry.rpartition(":")
    try:
        if module:
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ModuleNotFoundError(
            f"there is no module `{module}` here: name the package that has it, as in"
            f" `--with PACKAGE`, or `Grant(packages=…)`"
        ) from None
    try:
        return gymnasium.spec(plain)
    except errors.NamespaceNotFound as error:
        raise LookupError(
            f"{error} An id of another package is `gym:MODULE:{plain}`, and its package named"
            " with `--with PACKAGE`"
        ) from None
    except errors.Error as error:
        raise LookupError(str(error)) from None


def _preload(spec: EnvSpec) -> None:
    """Import the environment's own module, for every session to share.

    What is missing there is told when the environment is made, in Gymnasium's words.
    """
    if isinstance(spec.entry_point, str):
        try:
            importlib.import_module(spec.entry_point.partition(":")[0])
        except errors.DependencyNotInstalled as error:
            raise ImportError(
                f"{error} `--with PACKAGE` installs one beside those of the id"
            ) from None


class _Made:
    """The environment of one process, made when it is first asked for.

    Args:
        spec: what to make.
        options: keyword arguments for it.
    """

    def __init__(self, spec: EnvSpec, options: dict[str, Any]) -> None:
        self._spec = spec
        self._options = options
        self._env: gymnasium.Env[Any, Any] | None = None

    @property
    def env(self) -> gymnasium.Env[Any, Any]:
        """The environment."""
        if self._env is None:
            self._env = gymnasium.make(self._spec, **self._options)
        return self._env

    def another(self, **options: Any) -> gymnasium.Env[Any, Any]:
        """Return one more of it, for many at once."""
        return gymnasium.make(self._spec, **{**self._options, **options})

    def together(
        self, num_envs: int, **options: Any
    ) -> gymnasium.vector.VectorEnv[Any, Any, Any]:
        """Return many of it in one, of its author's vectorised class."""
        mode = gymnasium.VectorizeMode.VECTOR_ENTRY_POINT
        return gymnasium.make_vec(self._spec, num_envs, mode, **{**self._options, **options})


class _Hosted:
    """One environment of theirs, in the shape of one of ours."""

    made: _Made

    def __init__(self) -> None:
        self._env = self.made.env
        self._space = self._env.observation_space
        self._episode_id: str | None = None
        self._steps = 0

    def reset(self, seed: Any = None, options: Any = None, episode_id: Any = None) -> Told:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise InvalidOption(f"`seed` must be an int, and is {seed!r}")
        if options is not None and not isinstance(options, dict):
            raise InvalidOption(f"`options` must be a mapping, and are {options!r}")
        if episode_id is not None and not isinstance(episode_id, str):
            raise InvalidOption(f"`episode_id` must be a str, and is {episode_id!r}")
        observation, info = self._env.reset(seed=seed, options=options)
        self._episode_id, self._steps = episode_id, 0
        return _told(self._space, observation, None, False, False, info)

    def step(self, action: Any) -> Told:
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        return _told(self._space, observation, reward, terminated, truncated, info)

    @property
    def state(self) -> State:
        return State(episode_id=self._episode_id, step_count=self._steps)

    def close(self) -> None:
        self._env.close()


def _told(
    space: Any, observation: Any, reward: Any, terminated: Any, truncated: Any, info: Any
) -> Told:
    told = spaces.dump(space, observation)
    is_object = isinstance(space, kinds.Dict) and isinstance(told, dict)
    fields = told if is_object else {"observation": told}
    number = None if reward is None else float(reward)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"the reward must be a finite number, and is {number}")
    return Told(told, fields, number, bool(terminated), bool(truncated), plain(info))


def plain(info: Any) -> dict[str, Any]:
    """Return of an info what can be sent, and a note of what cannot."""
    return noted(info, _plain)


_NOTHING = object()


def _plain(value: Any, path: str, lost: list[str], depth: int) -> Any:
    if depth and isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            if not is_text(key):
                lost.append(f"{path}[{str(key)[:40]!a}]: its key is no text")
            elif (sent := _plain(item, f"{path}.{key}", lost, depth - 1)) is not _NOTHING:
                found[key] = sent
        return found
    if depth and isinstance(value, list | tuple | set | frozenset):
        items = [_plain(v, f"{path}[{i}]", lost, depth - 1) for i, v in enumerate(value)]
        return [item for item in items if item is not _NOTHING]
    if value is None or isinstance(value, bool | float) or is_text(value):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if type(value).__module__ == "numpy":
        try:
            arrays.ENCODER.encode(value)
        except (TypeError, ValueError, OverflowError):
            pass  # of objects, of dates
        else:
            return value
    lost.append(f"{path}: `{type(value).__name__}`")
    return _NOTHING


class _Actions:
    """Actions, from the space that the environment has.

    A client sends the action itself, or `{"action": …}`; of a Dict space its fields are the
    action, as long as none of them is missing.
    """

    lifts_truncated = False

    def __init__(self, made: _Made) -> None:
        self._made = made

    def load(self, value: Any) -> Any:
        space = self._made.env.action_space
        if _is_wrapped(space, value):
            return spaces.load(space, value["action"], ("action",))
        if isinstance(space, kinds.Dict) and isinstance(value, dict):
            beside = {"metadata"} - space.spaces.keys()  # OpenEnv's typed actions all have it
            value = {key: item for key, item in value.items() if key not in beside}
        return spaces.load(space, value)

    def dump(self, value: Any) -> dict[str, Any]:
        raise TypeError("an action is not sent back")

    def schema(self) -> dict[str, Any]:
        space = self._made.env.action_space
        if where := spaces.unknown(space):
            raise UsageError(f"actions in a space that is not supported: {where}")
        return _as_object("action", space)


class _Observations:
    """Observations, as JSON clients see them."""

    lifts_truncated = False

    def __init__(self, made: _Made) -> None:
        self._made = made

    def load(self, value: Any) -> Any:
        return value

    def dump(self, value: Any) -> dict[str, Any]:
        raise TypeError(f"a `{type(value).__name__}` is no observation")

    def schema(self) -> dict[str, Any]:
        said = _as_object("observation", self._made.env.observation_space)
        beside = {"metadata": {"type": "object"}, **said["properties"]}
        return {**said, "properties": beside}


def _as_object(name: str, space: Any) -> dict[str, Any]:
    """Return the schema of a space as an object: a Dict is one, others stand in a field."""
    found = spaces.schema(space)
    if isinstance(space, kinds.Dict):
        return found
    return {
        "type": "object",
        "properties": {name: found},
        "required": [name],
        "additionalProperties": False,
    }


def _is_wrapped(space: Any, value: Any) -> bool:
    """Whether an action stands in a field; OpenEnv's have `metadata` beside it."""
    if not isinstance(value, dict) or "action" not in value:
        return False
    if isinstance(space, kinds.Dict) and "action" in space.spaces:
        return False
    return value.keys() <= {"action", "metadata"}
