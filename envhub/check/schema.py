"""JSON Schema as pydantic and msgspec write it: is one valid, and does a value fit it?

A subset of the standard, and one that errs on the side of the author: what is not known here
(`format`, `not`, `if`) is not held against a value.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterator
from typing import Any

Schema = Any  # a mapping, or True or False
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_CHOICES = ("anyOf", "oneOf", "allOf")
_MOST_DEPTH = 64  # a value is finite, but a schema may refer to itself without one


def resolved(schema: Schema, root: Schema) -> Schema:
    """Return the schema with its `$ref` followed; keywords beside it are kept.

    Raises:
        LookupError: it refers to nothing.
    """
    seen: set[str] = set()
    while isinstance(schema, dict) and isinstance(reference := schema.get("$ref"), str):
        if reference in seen:
            raise LookupError(f"`{reference}` refers to itself")
        seen.add(reference)
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        target = _target(reference, root)
        schema = {**target, **beside} if isinstance(target, dict) else target
    return schema


def _target(reference: str, root: Schema) -> Schema:
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if name and not (isinstance(found, dict) and name in found):
            raise LookupError(f"`{reference}` refers to nothing")
        found = found[name] if name else found
    return found


def flaws(root: Schema) -> list[str]:
    """Return what is wrong with a schema itself, with paths; [] when it is valid."""
    if not isinstance(root, dict):
        return [f"$: expected a mapping, got `{type(root).__name__}`"]
    return list(_flaws(root, root, "$"))


def _flaws(schema: Schema, root: Schema, path: str) -> Iterator[str]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{path}: expected a mapping, got `{type(schema).__name__}`"
        return
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _TYPES:
            yield f"{path}.type: `{kind}` is no type of JSON Schema"
    if "$ref" in schema:
        try:
            resolved(schema, root)
        except LookupError as error:
            yield f"{path}: {error.args[0]}"
    try:
        re.compile(schema.get("pattern", ""))
    except (re.error, TypeError) as error:
        yield f"{path}.pattern: {error}"
    for key in ("properties", "$defs", "patternProperties"):
        inner = schema.get(key, {})
        if not isinstance(inner, dict):
            yield f"{path}.{key}: expected a mapping"
            continue
        for name, value in inner.items():
            yield from _flaws(value, root, f"{path}.{key}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from _flaws(schema[key], root, f"{path}.{key}")
    for key in (*_CHOICES, "prefixItems"):
        inner = schema.get(key, [])
        if not isinstance(inner, list):
            yield f"{path}.{key}: expected a list"
            continue
        for at, value in enumerate(inner):
            yield from _flaws(value, root, f"{path}.{key}[{at}]")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield f"{path}.required: expected a list of names"


def misfits(value: Any, schema: Schema, root: Schema | None = None) -> list[str]:
    """Return where a value of plain JSON does not fit, with paths; [] when it does."""
    return list(_misfits(value, schema, schema if root is None else root, "$", 0))


def _misfits(value: Any, schema: Schema, root: Schema, path: str, depth: int) -> Iterator[str]:
    if schema is False:
        yield f"{path}: nothing is allowed here"
    if not isinstance(schema, dict) or depth > _MOST_DEPTH:
        return
    try:
        schema = resolved(schema, root)
    except LookupError:
        return  # a flaw of the schema, told elsewhere
    if not isinstance(schema, dict):
        return
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{path}: expected {' or '.join(map(str, kinds))}, got {_brief(value)}"
        return
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        yield f"{path}: expected one of {_brief(schema['enum'])}, got {_brief(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{path}: expected {_brief(schema['const'])}, got {_brief(value)}"
    yield from _chosen(value, schema, root, path, depth)
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        yield from _number(value, schema, path)
    elif isinstance(value, str):
        yield from _length(len(value), "characters", schema, ("minLength", "maxLength"), path)
        if "pattern" in schema and not _matches(schema["pattern"], value):
            yield f"{path}: expected what matches `{schema['pattern']}`, got {_brief(value)}"
    elif isinstance(value, list):
        yield from _length(len(value), "items", schema, ("minItems", "maxItems"), path)
        if schema.get("uniqueItems") and any(one in value[:at] for at, one in enumerate(value)):
            yield f"{path}: an item stands there twice"
        prefix = schema.get("prefixItems", [])
        for at, item in enumerate(value):
            inner = prefix[at] if at < len(prefix) else schema.get("items", True)
            yield from _misfits(item, inner, root, f"{path}[{at}]", depth + 1)
    elif isinstance(value, dict):
        yield from _mapping(value, schema, root, path, depth)


def _mapping(
    value: dict[str, Any], schema: Schema, root: Schema, path: str, depth: int
) -> Iterator[str]:
    yield from _length(len(value), "keys", schema, ("minProperties", "maxProperties"), path)
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}: `{name}` is missing"
    properties = schema.get("properties", {})
    by_pattern = schema.get("patternProperties", {})
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        inner = [properties[name]] if name in properties else []
        inner += [found for pattern, found in by_pattern.items() if _matches(pattern, name)]
        if not inner and others is False:
            yield f"{path}: `{name}` is not in the schema"
        for one in inner or [others]:
            if one is not False:
                yield from _misfits(item, one, root, f"{path}.{name}", depth + 1)


def _chosen(value: Any, schema: Schema, root: Schema, path: str, depth: int) -> Iterator[str]:
    for key in _CHOICES:
        if key not in schema:
            continue
        tried = [list(_misfits(value, one, root, path, depth + 1)) for one in schema[key]]
        if key == "allOf":
            yield from (misfit for found in tried for misfit in found)
        elif tried and all(tried):
            nearest = max(tried, key=lambda found: found[0].partition(":")[0].count("."))
            yield f"{path}: fits none of {len(tried)}; {nearest[0]}"


def _number(value: float, schema: Schema, path: str) -> Iterator[str]:
    if not math.isfinite(value):
        yield f"{path}: {value} is no number of JSON"
        return
    for key, holds, word in (
        ("minimum", operator.ge, "at least"),
        ("maximum", operator.le, "at most"),
        ("exclusiveMinimum", operator.gt, "more than"),
        ("exclusiveMaximum", operator.lt, "less than"),
    ):
        bound = schema.get(key)
        if isinstance(bound, int | float) and not holds(value, bound):
            yield f"{path}: expected {word} {bound}, got {value}"
    step = schema.get("multipleOf")
    if isinstance(step, int | float) and step:
        times = value / step
        if not math.isclose(times, round(times), abs_tol=1e-9):
            yield f"{path}: expected a multiple of {step}, got {value}"


def _length(
    length: int, what: str, schema: Schema, keys: tuple[str, str], path: str
) -> Iterator[str]:
    least, most = (schema.get(key) for key in keys)
    if isinstance(least, int) and length < least:
        yield f"{path}: expected at least {least} {what}, got {length}"
    if isinstance(most, int) and length > most:
        yield f"{path}: expected at most {most} {what}, got {length}"


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))


def _same(one: Any, other: Any) -> bool:
    """JSON's equality: 1 is not true."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True  # a flaw of the schema, told elsewhere


def _brief(value: Any) -> str:
    text = repr(value)
    return f"`{text}`" if len(text) <= 80 else f"`{text[:77]}...`"
