"""What one batch returns, as it is put together from the batches of processes."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces as kinds
from gymnasium.vector import VectorEnv

from envhub import errors
from envhub.adapters import spaces
from envhub.errors import EnvhubError, EnvironmentFailed, RemoteProtocolError
from envhub.wire import infos as wire
from envhub.wire.vector import Batched, mapping

_NESTED = kinds.Tuple, kinds.Dict
# what a vector environment says, and no environment in it
_OURS = ("envhub_error", "_envhub_error", "env_id")


class _Packing(VectorEnv[Any, Any, Any]):
    """Gymnasium's own way to put infos together, for so many environments."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs

    def add(self, infos: dict[str, Any], info: dict[str, Any], at: int) -> dict[str, Any]:
        return self._add_info(infos, info, at)


class Batch:
    """Results of some environments, in order.

    Args:
        parts: which rows are whose, by member.
        size: rows.

    Attributes:
        leaves: arrays of the observations.
        rewards: of a step; nothing after a reset, as the two that follow.
        terminated: whose episodes are over.
        truncated: whose were cut short.
        infos: put together.
    """

    leaves: list[Any]
    rewards: Any
    terminated: Any
    truncated: Any

    def __init__(self, parts: dict[int, slice], size: int) -> None:
        self.parts = parts
        self.size = size
        self.infos: dict[str, Any] = {}

    def seen(self, space: kinds.Space[Any]) -> Any:
        """Return the observations, in the space's form."""
        if len(self.leaves) == 1 and not isinstance(space, _NESTED):
            return self.leaves[0]
        return spaces.nested(space, iter(self.leaves))

    def row(self, space: kinds.Space[Any], at: int) -> Any:
        """Return a copy of one observation."""
        return spaces.nested(space, (leaf[at].copy() for leaf in self.leaves))

    def tell(self, row: int, info: dict[str, Any]) -> None:
        """Add the info of one environment."""
        self.infos = _Packing(self.size).add(self.infos, info, row)

    def tell_last(self, row: int, seen: Any, info: dict[str, Any]) -> None:
        """Add what the episode of one environment has ended with."""
        self.tell(row, {"final_obs": seen, "final_info": info})


class Apart(Batch):
    """One that keeps what environments say as they say it, for others than Gymnasium.

    Attributes:
        told: the infos of those that have one, by row.
        last: the last observation and info of those whose episode a reset has followed.
    """

    def __init__(self, parts: dict[int, slice], size: int) -> None:
        super().__init__(parts, size)
        self.told: dict[int, dict[str, Any]] = {}
        self.last: dict[int, tuple[Any, dict[str, Any]]] = {}

    def tell(self, row: int, info: dict[str, Any]) -> None:
        """Add to the info of one environment."""
        self.told.setdefault(row, {}).update(info)

    def tell_last(self, row: int, seen: Any, info: dict[str, Any]) -> None:
        """Add what the episode of one environment has ended with."""
        self.last[row] = seen, info


def pack(batch: Batch, part: slice, batched: Batched, *, whole: bool = False) -> None:
    """Add what a process says of its environments.

    Args:
        batch: to this.
        part: their rows.
        batched: its reply.
        whole: they are one object, whose infos are put together already.

    Raises:
        RemoteProtocolError: it says what no worker of ours does.
        EnvironmentFailed: its infos cannot be put together.
    """
    for failure in batched.failures:
        if failure.index >= part.stop - part.start:
            raise RemoteProtocolError("the failure of an environment that is not there")
    if batched.infos and whole:
        batch.infos.update(_put_together(batched.infos))  # beside why it began anew
    elif batched.infos:
        _add(batch, part, batched.infos)
    for failure in batched.failures:
        error = _error(failure.code, failure.message, failure.traceback)
        batch.tell(part.start + failure.index, {"envhub_error": error})


def _add(batch: Batch, part: slice, data: bytes) -> None:
    count = part.stop - part.start
    try:
        told = wire.decode_info(data)
        for index, info, *last in told:
            if type(index) is not int or not 0 <= index < count or len(last) not in (0, 2):
                raise RemoteProtocolError("the info of an environment that is not there")
            if last:
                batch.tell_last(part.start + index, last[0], _cleared(last[1]))
            batch.tell(part.start + index, _cleared(info))
    except (TypeError, ValueError, RecursionError, OverflowError, MemoryError,
            AttributeError, IndexError) as error:  # fmt: skip
        raise EnvironmentFailed(f"infos that cannot be put together: {error}") from None


def _put_together(data: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _own(_cleared(wire.decode_info(data)))
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise EnvironmentFailed(f"infos that are none: {error}") from None
    return found


def _own(value: Any) -> Any:
    """Return it with arrays that can be written to."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, dict):
        return {name: _own(item) for name, item in value.items()}
    return value


def _cleared(info: Any) -> dict[str, Any]:
    found = mapping(info)
    for name in _OURS:
        found.pop(name, None)
    return found


def _error(code: str, message: str, trace: str) -> EnvhubError:
    if code == errors.ResetNeeded.code:
        return errors.ResetNeeded(message)
    if code == errors.DeadlineExceeded.code:
        return errors.DeadlineExceeded(message, verdict="episode_deadline", limit="episode_s")
    return EnvironmentFailed(message, traceback=trace, output="")
