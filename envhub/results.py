"""What a session hands to its user."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

_NESTING = (dict, list)  # what may have mappings in it


class Record(dict[str, Any]):
    """A mapping whose keys are attributes, too: `observation.stdout`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "nothing"
            raise AttributeError(f"no field `{name}`; there is {known}") from None

    def __dir__(self) -> list[str]:
        """List the fields, so that a REPL completes them."""
        return [*super().__dir__(), *self]


def record(value: Any) -> Any:
    """Return `value` with every mapping in it as a Record."""
    if isinstance(value, dict):
        found = Record(value)
        for key, item in value.items():
            kind = type(item)
            if kind is dict or kind is list:
                found[key] = record(item)
        return found
    if isinstance(value, list):
        return [record(item) if isinstance(item, _NESTING) else item for item in value]
    return value


@dataclass(frozen=True, slots=True)
class StepResult:
    """The environment's answer to `reset` or `step`.

    Args:
        observation: its fields, as attributes and as keys.
        reward: of this step alone, finite; None when there is none, as after a reset, or
            when grading itself failed (`metadata["error"]` then says why).
        terminated: the task itself ended.
        truncated: something outside the task ended the episode.
        metadata: for people and logs.
    """

    observation: Any
    reward: float | None = None
    terminated: bool = False
    truncated: bool = False
    metadata: Record = field(default_factory=Record)

    @property
    def done(self) -> bool:
        """Whether the episode is over, either way."""
        return self.terminated or self.truncated


@dataclass(slots=True)
class _Unfrozen:
    """A StepResult while it is filled; the same fields."""

    observation: Any
    reward: float | None
    terminated: bool
    truncated: bool
    metadata: Record


def step_result(
    observation: Any, reward: float | None, terminated: bool, truncated: bool, metadata: Record
) -> StepResult:
    """Return a StepResult, in less than half the time that a frozen class takes to fill."""
    filled: Any = _Unfrozen(observation, reward, terminated, truncated, metadata)
    filled.__class__ = StepResult
    result: StepResult = filled
    return result


@dataclass(frozen=True, slots=True)
class Bill:
    """What a session has used so far, over all its calls and processes.

    The bill of one step, or of any stretch, is the difference of two:

        before = await session.bill()
        await session.step(action)
        used = await session.bill() - before

    Args:
        calls: made of its processes, closing apart.
        wall_s: wall-clock seconds in these, that of a call under way included.
        waited_s: seconds of waiting for a place, for a process, for another call's end.
        cpu_s: CPU seconds of its processes and agent sandboxes, and of all that they started.
            The kernel tells them up to its last tick. What has ended unseen with a lost
            worker is left out.
        peak_bytes: largest resident set of any one process, shared pages included. Of a
            difference: the later one's.
        sent_bytes: to its processes, as messages on their sockets.
        received_bytes: from them, likewise.
        printed_bytes: that they printed.
    """

    calls: int = 0
    wall_s: float = 0.0
    waited_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    printed_bytes: int = 0

    def __sub__(self, earlier: Bill) -> Bill:
        """Return what was used since an earlier bill of the same session."""
        used = {f.name: getattr(self, f.name) - getattr(earlier, f.name) for f in fields(self)}
        return Bill(**{**used, "peak_bytes": self.peak_bytes})
