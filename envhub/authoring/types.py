"""The types that authors extend. Field names and their meaning are OpenEnv's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Action(BaseModel):
    """What a client sends to `step`. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    metadata: dict[str, Any] = Field(default_factory=dict, description="Not for the task")


class Observation(BaseModel):
    """What a client sees after `reset` and `step`.

    `done`, `truncated` and `reward` are lifted out of it into the step's result.

    Args:
        done: the task itself ended (Gymnasium's *terminated*).
        truncated: something outside the task ended the episode, such as a limit of steps.
        reward: of this step alone, finite; None when there is none, as after a reset.
        metadata: for people and logs; a failure of the grading says so under "error".
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    done: bool = False
    truncated: bool = False
    reward: bool | int | float | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class State(BaseModel):
    """What a client may ask for at any time. Authors add fields; unknown ones are kept."""

    model_config = ConfigDict(extra="allow", validate_assignment=True)

    episode_id: str | None = None
    step_count: int = Field(default=0, ge=0)
