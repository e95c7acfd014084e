"""Actions to play with: made from an environment's own JSON Schema, or given in a file.

The same seed makes the same actions, on any machine. They are valid and mostly pointless: the
checks ask whether an environment keeps its promises, not whether it can be won.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from envhub.check.schema import Schema, misfits, resolved
from envhub.errors import UsageError

_TRIES = 64  # before a schema is said to be too hard
_DEPTH = 5  # past it, what may be left out is
_LONGEST = 6  # items of a list
_WORDS = ("", "a", "hello", "yes", "north", "42", "Zürich", "two words", "1 + 1", "x = 1\nx")
# texts that common patterns match; what none of them matches needs a file of actions
_SHAPES = (
    "a", "A", "0", "ab", "A1", "a1", "abc", "ABC", "e2e4", "a-b", "a_b", "0.5", "12:30",
    "2024-01-31", "#a0b1c2", "0x1f", "/a/b", "a@example.org", "a.b", "00000000",
)  # fmt: skip
_FORMATS = {
    "date-time": "2024-01-31T12:30:00Z",
    "date": "2024-01-31",
    "time": "12:30:00Z",
    "duration": "PT5S",
    "uuid": "6fa459ea-ee8a-4ca4-894e-db77e160355e",
    "email": "a@example.org",
    "uri": "https://example.org/a",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "binary": "abc",
    "base64": "YWJj",
    "path": "a/b",
}
_NESTED = ("object", "array", None)
_NUMBERS = (0, 0, 1, 1, 2, 2, 3, 3, 5, 10, -1)  # small ones often number the choices
_RANGE = 20  # above or below the one bound that a number has


class Actions:
    """The actions of every episode, by number.

    Args:
        schema: of the environment's actions.
        seed: which of them.
        given: actions to play instead, from the beginning in each episode, over and over.
    """

    def __init__(self, schema: Schema, seed: int, given: Sequence[Any] = ()) -> None:
        self._schema = schema
        self._seed = seed
        self._given = given

    def at(self, step: int, episode: int = 0) -> Any:
        """Return the action of a step, both counted from 0.

        Raises:
            UsageError: none can be made.
        """
        if self._given:
            return self._given[step % len(self._given)]
        return valid(self._schema, Random(f"{self._seed}/{episode}/{step}"))  # noqa: S311


def valid(schema: Schema, random: Random) -> Any:
    """Return a value that fits the schema.

    Raises:
        UsageError: none was found; the message has the reason.
    """
    why = ""
    for _ in range(_TRIES):
        try:
            value = _value(schema, schema, random, 0)
        except (LookupError, RecursionError) as error:
            raise UsageError(f"no action can be made: {error}") from None
        found = misfits(value, schema)
        if not found:
            return value
        why = found[0]
    raise UsageError(
        f"no action can be made that fits the schema: {why}",
        hint="give some with `--actions FILE.jsonl`, one JSON object a line",
    )


def from_file(path: Path) -> list[Any]:
    """Return the actions in a file of JSON lines.

    Raises:
        UsageError: a line is no JSON, or there is none.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise UsageError(f"`{path}`, line {number}: not JSON: {error}") from None
    if not found:
        raise UsageError(f"`{path}` has no actions", hint="one JSON object a line")
    return found


def _value(schema: Schema, root: Schema, random: Random, depth: int) -> Any:
    schema = resolved(schema, root)
    if not isinstance(schema, dict):
        return random.choice(_WORDS)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            chosen = _choice([resolved(one, root) for one in schema[key]], random, depth)
            return _value(_joined(schema, key, [chosen]), root, random, depth + 1)
    if schema.get("allOf"):
        parts = [resolved(one, root) for one in schema["allOf"]]
        return _value(_joined(schema, "allOf", parts), root, random, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return random.choice(schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = random.choice(kind)
    if kind is None:
        kind = "object" if "properties" in schema else "string"
    match kind:
        case "object":
            return _object(schema, root, random, depth)
        case "array":
            return _array(schema, root, random, depth)
        case "integer" | "number":
            return _number(schema, random, whole=kind == "integer")
        case "boolean":
            return random.random() < 0.5
        case "null":
            return None
        case _:
            return _text(schema, random)


def _choice(options: list[Schema], random: Random, depth: int) -> Schema:
    kinds = [o.get("type") if isinstance(o, dict) else None for o in options]
    if kinds == ["number", "string"]:  # a Decimal: the texts that it takes are not said
        return options[0]
    if depth > _DEPTH:  # the one that ends soonest
        plain = [o for o in options if isinstance(o, dict) and o.get("type") not in _NESTED]
        options = plain or options
    return random.choice(options)


def _joined(schema: Schema, without: str, parts: Iterable[Schema]) -> Schema:
    """Return the schema without one keyword, and with what the parts say."""
    joined = {key: value for key, value in schema.items() if key != without}
    for part in parts:
        for key, value in part.items() if isinstance(part, dict) else ():
            if key == "properties":
                value = {**joined.get(key, {}), **value}
            elif key == "required":
                value = [*joined.get(key, []), *value]
            joined[key] = value
    return joined


def _object(schema: Schema, root: Schema, random: Random, depth: int) -> dict[str, Any]:
    required = set(schema.get("required", []))
    made = {}
    for name, inner in schema.get("properties", {}).items():
        if name in required or (depth <= _DEPTH and random.random() < 0.5):
            made[name] = _value(inner, root, random, depth + 1)
    others = schema.get("additionalProperties", True)
    for number in range(max(0, schema.get("minProperties", 0) - len(made))):
        made[f"key{number}"] = _value(others, root, random, depth + 1)
    return made


def _array(schema: Schema, root: Schema, random: Random, depth: int) -> list[Any]:
    prefix = schema.get("prefixItems", [])
    least = schema.get("minItems", 0)
    most = schema.get("maxItems", max(least, _LONGEST))
    length = random.randint(least, max(least, min(most, least + _LONGEST)))
    if depth > _DEPTH:
        length = least
    kinds = [*prefix, *[schema.get("items", True)] * max(0, length - len(prefix))]
    return [_value(kind, root, random, depth + 1) for kind in kinds[: max(length, least)]]


def _number(schema: Schema, random: Random, *, whole: bool) -> float:
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low, high = schema.get("minimum", above), schema.get("maximum", below)
    step = schema.get("multipleOf")
    if low is None and high is None:
        number: float = random.choice(_NUMBERS)
    else:
        low = high - _RANGE if low is None else low
        high = low + _RANGE if high is None else high
        # a bound that is not itself allowed: a number right beside it is nobody's intention
        edge = 1 if whole else (high - low) / 20
        low += edge if low == above else 0
        high -= edge if high == below else 0
        number = random.choice((low, high, *(random.uniform(low, high) for _ in range(6))))
    if step:
        number = round(number / step) * step
    return int(number) if whole else round(number, 6)


def _text(schema: Schema, random: Random) -> str:
    known = _FORMATS.get(schema.get("format", ""))
    if known:
        return known
    least: int = schema.get("minLength", 0)
    if pattern := schema.get("pattern"):
        fitting = [shape for shape in _SHAPES if not misfits(shape, schema)]
        shape: str = random.choice(fitting) if fitting else str(pattern).strip("^$")
        return shape
    text: str = random.choice(_WORDS)
    text += "x" * max(0, least - len(text))
    most: int = schema.get("maxLength", len(text))
    return text[:most]
