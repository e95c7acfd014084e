"""OpenEnv's request models, for the errors they give. Imported only when one is needed.

The fields and their rules are the contract; pydantic's words for breaking them are part of
what clients see. Nothing here knows what an action looks like: workers judge that.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError, to_json


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ResetMessage(_Message):
    """Begin an episode."""

    type: Literal["reset"]
    data: dict[str, Any] = {}


class StepMessage(_Message):
    """Take one action."""

    type: Literal["step"]
    data: dict[str, Any]


class StateMessage(_Message):
    """Ask for the state."""

    type: Literal["state"]


class CloseMessage(_Message):
    """End the session."""

    type: Literal["close"]


class McpMessage(_Message):
    """Carry a JSON-RPC request."""

    type: Literal["mcp"]
    data: dict[str, Any]


class JsonRpcRequest(_Message):
    """A JSON-RPC 2.0 request; the class's name appears in upstream's error text."""

    jsonrpc: Literal["2.0"]
    method: str
    params: dict[str, Any] = {}
    id: str | int | None = None


class ResetBody(BaseModel):
    """The body of POST /reset. Keys it does not know are options of the environment."""

    model_config = ConfigDict(extra="allow")

    seed: int | None = Field(default=None, ge=0)
    episode_id: str | None = Field(default=None, max_length=255)


class StepBody(BaseModel):
    """The body of POST /step. Keys it does not know are arguments for the environment."""

    model_config = ConfigDict(extra="allow")

    action: dict[str, Any]
    timeout_s: float | None = Field(default=None, gt=0)
    request_id: str | None = Field(default=None, max_length=255)


class SplitBody(_Message):
    """Names a split."""

    split: str


class TaskBody(SplitBody):
    """Names one task of a split."""

    index: int


class RangeBody(SplitBody):
    """Names some tasks of a split; without an end, all from the start."""

    start: int | None = None
    stop: int | None = None


TASK_BODIES: dict[str, type[BaseModel]] = {
    "tasks": SplitBody,
    "num_tasks": SplitBody,
    "task": TaskBody,
    "task_range": RangeBody,
}
BY_TYPE: dict[str, type[_Message]] = {
    "reset": ResetMessage,
    "step": StepMessage,
    "state": StateMessage,
    "close": CloseMessage,
    "mcp": McpMessage,
}

MAX_KEYS = 100  # a frame has room for a million, and nobody reads as many errors


def errors_in(model: type[BaseModel], message: dict[str, Any]) -> str | None:
    """Return pydantic's list of errors as JSON, or None if `message` fits the model."""
    try:
        model.model_validate(bounded(model, message))
    except ValidationError as error:
        return dumped([dict(e) for e in error.errors()])
    return None


def bounded(model: type[BaseModel], message: dict[str, Any]) -> dict[str, Any]:
    """Return as many keys of `message` as are judged: each unknown one is an error's worth."""
    if len(message) <= MAX_KEYS:
        return message
    known = {key: message[key] for key in model.model_fields if key in message}
    return {**dict(islice(message.items(), MAX_KEYS)), **known}


def dumped(errors: list[dict[str, Any]]) -> str:
    """Return a list of errors as JSON, NaN being null.

    Each quotes what the client sent as "input"; when that cannot be written, it is left out.
    """
    try:
        return to_json(errors, inf_nan_mode="null").decode()
    except PydanticSerializationError:  # a lone surrogate
        return json.dumps([{**error, "input": None} for error in errors])
