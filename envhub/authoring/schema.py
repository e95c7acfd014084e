"""From an environment's annotations to bytes and back: decode, encode, JSON Schema.

A type may be a pydantic model, a dataclass, a TypedDict or a msgspec Struct. pydantic models
are called as OpenEnv calls them (`model_validate`, then `model_dump`, then its serializer),
because their authors override these methods.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections import abc
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple, Protocol

import msgspec
import pydantic_core
from pydantic import BaseModel, TypeAdapter

from envhub.errors import InvalidAction
from envhub.wire import arrays
from envhub.wire.messages import Form, Observed

_PARTS = (abc.Iterable, abc.Iterator, abc.Generator, abc.AsyncIterable, abc.AsyncIterator,
          abc.AsyncGenerator)  # fmt: skip
_JSON = msgspec.json.Decoder()  # in a tenth of the time that the standard library takes
_NOTHING = b"\x80"  # an empty map in MessagePack
_NUMBERS = (int, float)  # of which a union would be looked through more slowly
_PLAIN = {int, float, str, bool, bytes, type(None)}  # what no dump changes
# pydantic's own methods have a dozen arguments each to pass on, which costs as much as they do
_VALIDATE = BaseModel.model_validate.__func__  # type: ignore[attr-defined]
_DUMP = BaseModel.model_dump
_BY_ALIAS = inspect.signature(_DUMP).parameters["by_alias"].default  # not the serializer's


class Codec(Protocol):
    """How values of one type become bytes and back.

    Attributes:
        lifts_truncated: out of an observation, as reward and done, to stand beside it.
    """

    lifts_truncated: bool

    def load(self, value: Any) -> Any:
        """Return the typed value; raise InvalidAction."""
        ...

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the value as a plain mapping."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        ...


class ModelCodec:
    """A pydantic model."""

    lifts_truncated: bool = True

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model
        own = getattr(model.model_validate, "__func__", None)
        self._validates_plainly = own is _VALIDATE

    def load(self, value: Any) -> Any:
        """Return the validated model."""
        try:
            if self._validates_plainly:
                return self._model.__pydantic_validator__.validate_python(value)
            return self._model.model_validate(value)
        except pydantic_core.ValidationError as error:
            raise _invalid(error) from None

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the model's own dump; OpenEnv leaves out what it lifts."""
        if getattr(type(value), "model_dump", None) is _DUMP:
            plain: dict[str, Any] = value.__pydantic_serializer__.to_python(
                value, by_alias=_BY_ALIAS
            )
            return plain
        if not hasattr(value, "model_dump"):
            name = type(value).__name__
            raise AttributeError(f"'{name}' object has no attribute 'model_dump'")
        dumped: dict[str, Any] = value.model_dump()
        return dumped

    def schema(self) -> dict[str, Any]:
        """Return the model's JSON Schema."""
        return self._model.model_json_schema()


class PlainCodec:
    """A dict, or anything: what was decoded is so already.

    Args:
        kind: `dict`, or `Any`.
    """

    lifts_truncated: bool = True

    def __init__(self, kind: Any) -> None:
        self._other = AdapterCodec(kind)
        self._is_any = kind is Any

    def load(self, value: Any) -> Any:
        """Return the value."""
        if self._is_any or type(value) is dict:
            return value
        return self._other.load(value)

    def dump(self, value: Any) -> dict[str, Any]:
        """Return a mapping of its own; one that is none stands under "value"."""
        if type(value) is dict:
            for item in value.values():
                if type(item) not in _PLAIN:
                    break
            else:
                return value.copy()
        return self._other.dump(value)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema."""
        return self._other.schema()


class AdapterCodec:
    """A dataclass, a TypedDict, or anything else that pydantic can adapt."""

    lifts_truncated: bool = True

    def __init__(self, kind: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(kind)

    def load(self, value: Any) -> Any:
        """Return the validated value."""
        try:
            return self._adapter.validator.validate_python(value)
        except pydantic_core.ValidationError as error:
            raise _invalid(error) from None

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the value as a mapping; one that is none stands under "value"."""
        return _mapping(self._adapter.serializer.to_python(value, by_alias=_BY_ALIAS))

    def schema(self) -> dict[str, Any]:
        """Return the adapter's JSON Schema."""
        return self._adapter.json_schema()


class StructCodec:
    """A msgspec Struct."""

    lifts_truncated: bool = True

    def __init__(self, kind: type[msgspec.Struct]) -> None:
        self._kind = kind

    def load(self, value: Any) -> Any:
        """Return the converted Struct."""
        try:
            return msgspec.convert(value, self._kind)
        except msgspec.ValidationError as error:
            detail = [{"type": "struct", "loc": [], "msg": str(error), "input": value}]
            text = pydantic_core.to_json(detail, fallback=repr)
            raise InvalidAction(str(error), detail=text) from None

    def dump(self, value: Any) -> dict[str, Any]:
        """Return the Struct as a mapping."""
        return _mapping(msgspec.to_builtins(value, enc_hook=lambda other: other))

    def schema(self) -> dict[str, Any]:
        """Return the Struct's JSON Schema."""
        return msgspec.json.schema(self._kind)


def codec(kind: Any) -> Codec:
    """Return how values of `kind` become bytes and back."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return ModelCodec(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return StructCodec(kind)
    if kind is Any or kind is dict:
        return PlainCodec(kind)
    return AdapterCodec(kind)


@dataclass(frozen=True, slots=True)
class Signature:
    """What an environment's annotations say.

    Args:
        action: of `step`'s first argument.
        observation: of `step`'s result.
        state: of the property `state`.
        reset_options: names that `reset` takes; None when it takes any.
        step_options: names that `step` takes beside the action; None when it takes any.
        reset_observation: of `reset`'s result; None where that is as `step`'s.
    """

    action: Codec
    observation: Codec
    state: Codec
    reset_options: tuple[str, ...] | None
    step_options: tuple[str, ...] | None
    reset_observation: Codec | None = None


def read(environment: type) -> Signature:
    """Return what the class's annotations say; what they leave out may be anything."""
    step = _method(environment, "step")
    hints = _hints(step)
    parameters = [p for p in inspect.signature(step).parameters if p != "self"]
    action = hints.get(parameters[0], Any) if parameters else Any
    state = inspect.getattr_static(environment, "state", None)
    getter = state.fget if isinstance(state, property) and state.fget else None
    return Signature(
        codec(_plain(action)),
        codec(_plain(hints.get("return", Any))),
        codec(_plain(_hints(getter).get("return", Any) if getter else Any)),
        names(_method(environment, "reset"), skip=1),
        names(step, skip=2),
    )


def _method(environment: type, name: str) -> Any:
    """Return the method that answers: the `_async` twin if the class has one of its own."""
    twin = getattr(environment, f"{name}_async", None)
    method = getattr(environment, name, None)
    chosen = method if method is not None else twin
    if not callable(chosen):
        raise TypeError(f"`{environment.__name__}` has no method `{name}`")
    return chosen


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError as error:
        raise TypeError(f"the annotations of `{function.__qualname__}`: {error}") from error


def _plain(kind: Any) -> Any:
    """Return what is meant: of a step with parts, one; of a variable nobody filled in, any."""
    if typing.get_origin(kind) in _PARTS and typing.get_args(kind):
        kind = typing.get_args(kind)[0]
    return Any if isinstance(kind, typing.TypeVar) else kind


def names(function: Any, *, skip: int) -> tuple[str, ...] | None:
    """Return the parameters of a function after the first `skip`; None when it takes any."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return tuple(p.name for p in parameters if p.kind is not p.VAR_POSITIONAL)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"value": value}


def _invalid(error: pydantic_core.ValidationError) -> InvalidAction:
    first = error.errors(include_url=False, include_context=False)[0]
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in first["loc"])
    message = f"{first['msg']} - at `${where}`"
    detail = pydantic_core.to_json(error.errors(), inf_nan_mode="null", fallback=repr)
    return InvalidAction(message, detail=detail)


class Told(NamedTuple):
    """An observation of an environment that says by itself what stands beside it.

    Args:
        observation: for native clients.
        fields: the same for OpenEnv's, who want a mapping.
        reward: finite; None for none.
        terminated: the task itself ended.
        truncated: something outside the task ended the episode.
        metadata: for people and logs.
    """

    observation: Any
    fields: dict[str, Any]
    reward: float | None
    terminated: bool
    truncated: bool
    metadata: dict[str, Any]


def outcome(
    kind: Codec, value: Any, form: Form, op: int = 0, *, is_part: bool = False
) -> Observed:
    """Return an observation in the form of the call, as the reply to it.

    Args:
        kind: of the observation.
        value: that an environment returned.
        form: of the payload.
        op: number of the call.
        is_part: of a step that may have more.

    Raises:
        ValueError: the reward is not a finite number, the metadata no mapping, or something in
            it has no such form.
    """
    if type(value) is Told:
        return _as_told(value, form, op, is_part)
    fields = kind.dump(value)
    reward, done, truncated = fields.pop("reward", None), fields.pop("done", False), False
    if kind.lifts_truncated:
        truncated = fields.pop("truncated", False)
    if type(value) is not dict:  # what has attributes is asked for them
        reward, done = getattr(value, "reward", reward), getattr(value, "done", done)
        if kind.lifts_truncated:
            truncated = getattr(value, "truncated", truncated)
    done, truncated = bool(done), bool(truncated)
    if form == "json":
        return _openenv(fields, reward, done, truncated, op, is_part)
    if reward is not None:
        if not ((type(reward) is float or _is_number(reward)) and isfinite(reward)):
            raise ValueError(f"the reward must be a finite number or None, and is {reward!r}")
        reward = float(reward)
    notes, metadata = _NOTHING, fields.pop("metadata", None)
    if metadata is not None:
        if not isinstance(metadata, dict):
            raise ValueError(f"the metadata must be a mapping or None, and is {metadata!r}")
        if metadata:
            notes = encode_native(metadata)
    return Observed(op, encode_native(fields), reward, done, truncated, notes, is_part)


def _as_told(told: Told, form: Form, op: int, is_part: bool) -> Observed:
    how = (told.reward, told.terminated, told.truncated)
    if form == "msgpack":
        notes = encode_native(told.metadata)
        return Observed(op, encode_native(told.observation), *how, notes, is_part)
    # OpenEnv's envelope has no place for the two ends of an episode
    metadata = {**told.metadata, "terminated": told.terminated, "truncated": told.truncated}
    data = {
        "observation": {"metadata": metadata, **told.fields},
        "reward": told.reward,
        "done": told.terminated or told.truncated,
        "metadata": metadata,
    }
    return Observed(op, encode_openenv(data), *how, _NOTHING, is_part)


def _openenv(
    fields: dict[str, Any], reward: Any, done: bool, truncated: bool, op: int, is_part: bool
) -> Observed:
    """OpenEnv's envelope: reward and done beside the observation, metadata in both places."""
    data: dict[str, Any] = {"observation": fields, "reward": reward, "done": done or truncated}
    if fields.get("metadata"):
        data["metadata"] = fields["metadata"]
    number = float(reward) if _is_number(reward) and isfinite(reward) else None
    return Observed(op, encode_openenv(data), number, done, truncated, _NOTHING, is_part)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) or type(value).__module__ == "numpy"


def encode_openenv(value: Any) -> bytes:
    """Return JSON as pydantic writes it; numpy's scalars and arrays become plain ones."""
    return pydantic_core.to_json(value, inf_nan_mode="null", fallback=arrays.as_builtin)


def decode_openenv(data: bytes) -> Any:
    """Return what OpenEnv's server would have loaded.

    Raises:
        ValueError, RecursionError: that would have refused it, too.
    """
    try:
        return _JSON.decode(data)
    except (msgspec.DecodeError, ValueError):  # or it is JSON in Python's sense only, as NaN is
        return json.loads(data)


# each step goes through both, so nothing is between: MessagePack, in which arrays keep dtype
# and shape, from a value and back; models come back as mappings
encode_native = arrays.ENCODER.encode
decode_native = arrays.decode
