"""What a session hands to its user."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
        return Record({key: record(item) for key, item in value.items()})
    if isinstance(value, list):
        return [record(item) for item in value]
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
