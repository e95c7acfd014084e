"""Gymnasium's spaces as JSON Schemas, and values to and from them. Pure functions, no I/O.

A schema says in plain JSON Schema what a value looks like, and under `x-gymnasium` what else
there is to know, so that the space can be made again from it: "space" is the name of its
class, beside it are the arguments. Of a Box "low" and "high" are one number where all elements
have the same, nested lists otherwise; null is an infinity.

What is not known is told apart: a value of such a space may be observed, if it is plain data,
and is described as anything; an action must be of a space that is known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from gymnasium import spaces

from envhub.errors import InvalidAction, UsageError

KEY = "x-gymnasium"
Path = tuple[str | int, ...]
_MOST_ELEMENTS = 1024  # for which the schema has bounds of their own
_LONGEST = 80  # characters of a value that an error shows
Schema = dict[str, Any]


# ---------------------------------------------------------------- what a space looks like


def schema(space: Any) -> Schema:
    """Return the JSON Schema of the values of a space."""
    name = type(space).__name__
    match space:
        case spaces.Discrete():
            start, n = int(space.start), int(space.n)
            known = {"n": n, "start": start, "dtype": str(space.dtype)}
            return _with(known, name, type="integer", minimum=start, maximum=start + n - 1)
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            low, high = _bounds(space)
            return {**_array(low, high), KEY: {"space": name, **_arguments(space, low, high)}}
        case spaces.Text():
            charset = "".join(sorted(space.character_set))
            least, most = int(space.min_length), int(space.max_length)
            known = {"min_length": least, "max_length": most, "charset": charset}
            pattern = f"^[{re.escape(charset)}]*$" if charset else "^$"
            return _with(
                known, name, type="string", minLength=least, maxLength=most, pattern=pattern
            )
        case spaces.Tuple():
            return _with({}, name, **_row([schema(each) for each in space.spaces]))
        case spaces.Dict():
            return _with({}, name, **_mapping({k: schema(s) for k, s in _fields(space)}))
        case spaces.OneOf():
            rows = [_row([{"const": at}, schema(each)]) for at, each in enumerate(space.spaces)]
            return _with({}, name, oneOf=rows)
        case spaces.Sequence() if not space.stack:
            return _with({}, name, type="array", items=schema(space.feature_space))
        case spaces.Graph():
            return _with({}, name, **_graph(space))
    return _with({}, name)


def unknown(space: Any, path: str = "$") -> str:
    """Return where in a space there is one that no action can be of; "" if nowhere."""
    match space:
        case spaces.Discrete() | spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return ""
        case spaces.Text():
            return ""
        case spaces.Tuple() | spaces.OneOf():
            inside = [unknown(each, f"{path}[{at}]") for at, each in enumerate(space.spaces)]
        case spaces.Dict():
            inside = [unknown(each, f"{path}.{key}") for key, each in _fields(space)]
        case spaces.Sequence() if not space.stack:
            inside = [unknown(space.feature_space, f"{path}[]")]
        case _:
            return f"`{type(space).__name__}` - at `{path}`"
    return next(filter(None, inside), "")


def _with(known: Mapping[str, Any], name: str, **said: Any) -> Schema:
    return {**said, KEY: {"space": name, **known}}


def _row(items: Sequence[Schema]) -> Schema:
    count = len(items)
    return {"type": "array", "prefixItems": [*items], "minItems": count, "maxItems": count}


def _mapping(fields: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }


def _graph(space: Any) -> Schema:
    nothing = {"type": "null"}
    edges = schema(space.edge_space) if space.edge_space is not None else nothing
    pair = _row([{"type": "integer", "minimum": 0}] * 2)
    return _mapping(
        {
            "nodes": {"type": "array", "items": schema(space.node_space)},
            "edges": {"anyOf": [{"type": "array", "items": edges}, nothing]},
            "edge_links": {"anyOf": [{"type": "array", "items": pair}, nothing]},
        }
    )


def _fields(space: Any) -> list[tuple[str, Any]]:
    """Return the fields of a Dict.

    Raises:
        UsageError: a key is no text.
    """
    for key in space.spaces:
        if not isinstance(key, str):
            raise UsageError(f"a `Dict` space with the key {key!r}; keys must be texts")
    return list(space.spaces.items())


def _bounds(space: Any) -> tuple[Any, Any]:
    """Return the least and the greatest value of each element."""
    match space:
        case spaces.MultiDiscrete():
            return space.start, space.start + space.nvec - 1
        case spaces.MultiBinary():
            return np.zeros(space.shape, np.int8), np.ones(space.shape, np.int8)
    return space.low, space.high


def _arguments(space: Any, low: Any, high: Any) -> Schema:
    shape = {"shape": list(map(int, space.shape)), "dtype": str(space.dtype)}
    match space:
        case spaces.MultiDiscrete():
            return {**shape, "nvec": space.nvec.tolist(), "start": space.start.tolist()}
        case spaces.MultiBinary():
            return shape
    return {**shape, "low": _compact(low), "high": _compact(high)}


def _compact(bound: Any) -> Any:
    """Return one number for elements that are alike, else nested lists; null for infinities."""
    if bound.size and (bound == bound.flat[0]).all():
        return _finite(bound.flat[0].item())
    return _finite(bound.tolist())


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value if math.isfinite(value) else None


def _array(low: Any, high: Any) -> Schema:
    """Return nested arrays of numbers, with the bounds of each as far as they are few."""
    if not low.shape:
        return _number(low, high)
    alike = low.size == 0 or ((low == low.flat[0]).all() and (high == high.flat[0]).all())
    if alike or low.size > _MOST_ELEMENTS:
        least, most = (low.min(), high.max()) if low.size else (low.dtype.type(0),) * 2
        inner = _number(least, most)
        for length in reversed(low.shape):
            size = int(length)
            inner = {"type": "array", "items": inner, "minItems": size, "maxItems": size}
        return inner
    return _row([_array(a, b) for a, b in zip(low, high, strict=True)])


def _number(low: Any, high: Any) -> Schema:
    if low.dtype.kind == "b":
        return {"type": "boolean"}
    said: Schema = {"type": "integer" if low.dtype.kind in "iu" else "number"}
    for key, bound in ("minimum", low.item()), ("maximum", high.item()):
        if math.isfinite(bound):
            said[key] = bound
    return said


# ---------------------------------------------------------------- an action, as it came


def load(space: Any, value: Any, path: Path = ()) -> Any:
    """Return an action as the space has it, from plain data or arrays.

    Raises:
        InvalidAction: it is not in the space; the message has the path.
    """
    match space:
        case spaces.Discrete():
            return space.dtype.type(_whole(space, value, path))
        case spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary():
            return _elements(space, value, path)
        case spaces.Text():
            return _text(space, value, path)
        case spaces.Tuple():
            items = _items(value, path, len(space.spaces))
            pairs = zip(space.spaces, items, strict=True)
            return tuple(load(s, item, (*path, at)) for at, (s, item) in enumerate(pairs))
        case spaces.Dict():
            return _record(space, value, path)
        case spaces.OneOf():
            at, inner = _items(value, path, 2)
            which = _whole(spaces.Discrete(len(space.spaces)), at, (*path, 0))
            return np.int64(which), load(space.spaces[which], inner, (*path, 1))
        case spaces.Sequence() if not space.stack:
            items = _items(value, path)
            feature = space.feature_space
            return tuple(load(feature, item, (*path, at)) for at, item in enumerate(items))
    raise UsageError(f"actions in a space that is not supported: {unknown(space)}")


def _whole(space: Any, value: Any, path: Path) -> int:
    least, most = int(space.start), int(space.start + space.n - 1)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _misfit(f"expected a whole number from {least} to {most}", value, path)
    if not least <= value <= most:
        raise _misfit(f"expected {least} to {most}", value, path)
    return value


def _text(space: Any, value: Any, path: Path) -> str:
    if not isinstance(value, str):
        raise _misfit("expected a text", value, path)
    if not space.min_length <= len(value) <= space.max_length:
        lengths = f"{space.min_length} to {space.max_length}"
        raise _misfit(f"expected {lengths} characters", value, path)
    for character in value:
        if character not in space.character_set:
            raise _misfit(f"{character!a} is not in its charset", value, path)
    return value


def _items(value: Any, path: Path, count: int | None = None) -> list[Any]:
    if isinstance(value, np.ndarray) and value.ndim:
        value = value.tolist() if value.ndim == 1 else list(value)
    if not isinstance(value, list | tuple):
        raise _misfit("expected a list", value, path)
    if count is not None and len(value) != count:
        raise _misfit(f"expected {count} items, got {len(value)}", value, path)
    return list(value)


def _record(space: Any, value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _misfit("expected a mapping", value, path)
    fields = _fields(space)
    known = [key for key, _ in fields]
    if others := [key for key in value if key not in space.spaces]:
        raise _misfit(f"no field {_brief(others[0])}; there is {', '.join(known)}", value, path)
    for key in known:
        if key not in value:
            raise _misfit("a field is missing", value, (*path, key))
    return {key: load(each, value[key], (*path, key)) for key, each in fields}


def _elements(space: Any, value: Any, path: Path) -> Any:
    """Return an array of the space's shape and type."""
    dtype, shape = space.dtype, tuple(space.shape)
    wanted = {"b": "true or false", "f": "numbers"}.get(dtype.kind, "whole numbers")
    if dtype.kind != "b" and (at := _boolean(value)) is not None:
        raise _misfit(f"expected {wanted}", value, (*path, *at))
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, OverflowError):  # lists of different lengths
        raise _misfit(f"expected the shape {shape}", value, path) from None
    allowed = {"b": "b", "i": "iu", "u": "iu"}.get(dtype.kind, "iuf")
    if found.size and found.dtype.kind not in allowed:
        raise _misfit(f"expected {wanted}", value, path)
    if found.shape != shape:
        raise _misfit(f"expected the shape {shape}, got {found.shape}", value, path)
    low, high = _bounds(space)
    if dtype.kind == "f":  # rounded first: the nearest to a bound in 64 bits may lie beyond it
        was_finite = np.isfinite(found)
        with np.errstate(over="ignore"):
            found = found.astype(dtype)
        fits = (found >= low) & (found <= high) & (np.isfinite(found) | ~was_finite)
    else:
        fits = (found >= low) & (found <= high)
    if not np.all(fits):
        first = tuple(int(at) for at in np.argwhere(~np.atleast_1d(fits))[0])
        first = first if found.shape else ()
        said = f"expected {low[first].item()} to {high[first].item()}"
        raise _misfit(said, found[first].item(), (*path, *first))
    return np.array(found, dtype)  # its own to write to


def _boolean(value: Any) -> Path | None:
    """Return where in nested lists there is a truth value: numpy would make a number of it."""
    if isinstance(value, bool):
        return ()
    if isinstance(value, list | tuple):
        for at, item in enumerate(value):
            if isinstance(item, bool | list | tuple) and (found := _boolean(item)) is not None:
                return (at, *found)
    return None


def _misfit(expected: str, value: Any, path: Path) -> InvalidAction:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    got = "" if ", got " in expected else f", got {_brief(value)}"
    said = f"{expected}{got}"
    detail = [{"type": "space", "loc": path, "msg": said, "input": _brief(value)}]
    return InvalidAction(f"{said} - at `${where}`", detail=msgspec.json.encode(detail))


def _brief(value: Any) -> str:
    text = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else ascii(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


# ---------------------------------------------------------------- an observation, to be sent


def dump(space: Any, value: Any) -> Any:
    """Return an observation as arrays, numbers, texts, lists and mappings.

    What is not what its space says is handed on as it is.
    """
    match space, value:
        case ((spaces.Box() | spaces.MultiDiscrete() | spaces.MultiBinary()), _):
            return value if isinstance(value, np.ndarray) else _as_array(space, value)
        case spaces.Dict(), Mapping():
            return {k: dump(space.spaces.get(k), item) for k, item in value.items()}
        case spaces.Tuple(), tuple() | list() if len(value) == len(space.spaces):
            return [dump(s, item) for s, item in zip(space.spaces, value, strict=True)]
        case spaces.OneOf(), (at, inner) if 0 <= at < len(space.spaces):
            return [int(at), dump(space.spaces[at], inner)]
        case spaces.Sequence(), tuple() | list():
            return [dump(space.feature_space, item) for item in value]
        case spaces.Graph(), spaces.GraphInstance():
            return dict(value._asdict())
    return value


def _as_array(space: Any, value: Any) -> Any:
    """Return what is like an array as one, such as frames that were stacked lazily."""
    if hasattr(value, "__array__") or isinstance(value, list | tuple):
        try:
            return np.asarray(value, space.dtype)
        except (ValueError, TypeError, OverflowError):
            return value
    return value
