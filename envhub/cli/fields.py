"""An action's schema as questions for a person, and their answers as values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envhub.check.schema import Schema, misfits, resolved

_LEFT_OUT = "metadata"  # OpenEnv's field of every action, and not for the task
_MOST_CHOICES = 12


@dataclass(frozen=True, slots=True)
class Field:
    """One question.

    Args:
        name: of the field.
        schema: of its values.
        root: that the schema's references are within.
        required: there is no action without it.
    """

    name: str
    schema: Schema
    root: Schema
    required: bool

    @property
    def kind(self) -> str:
        """What is asked for: a type of JSON Schema, "choice", or "JSON" for all others."""
        if self.choices:
            return "choice"
        kind = _plain(self.schema).get("type")
        simple = ("string", "integer", "number", "boolean")
        return str(kind) if kind in simple else "JSON"

    @property
    def choices(self) -> list[Any]:
        """The values that there are; [] when they are not counted out."""
        plain = _plain(self.schema)
        if "const" in plain:
            return [plain["const"]]
        found: list[Any] = plain.get("enum", [])
        return found

    def prompt(self) -> str:
        """Return the question."""
        plain = _plain(self.schema)
        if self.choices:
            said = " | ".join(_written(choice) for choice in self.choices[:_MOST_CHOICES])
            said += " | …" if len(self.choices) > _MOST_CHOICES else ""
        else:
            said = f"{plain.get('type', 'JSON')}{_bounds(plain)}"
            said += ", as JSON" if self.kind == "JSON" and "type" in plain else ""
        if self.nullable and self.kind not in ("JSON", "choice"):
            said += " or null"
        default = ""
        if not self.required:
            default = (
                f" [{_written(self.schema.get('default'))}]"
                if "default" in self.schema
                else " [left out]"
            )
        return f"{self.name} ({said}){default}: "

    @property
    def nullable(self) -> bool:
        """Whether null is a value."""
        return not misfits(None, self.schema, self.root)

    def read(self, text: str) -> Any:
        """Return the value that was typed.

        Raises:
            ValueError: it is none; the message says what is expected.
        """
        value = self._value(text.strip() if self.kind != "string" else text)
        if found := misfits(value, self.schema, self.root):
            raise ValueError(found[0].removeprefix("$: "))
        return value

    def _value(self, text: str) -> Any:
        if text == "null" and self.nullable:
            return None
        match self.kind:
            case "choice":
                for choice in self.choices:
                    if text == _written(choice):
                        return choice
                return text
            case "boolean":
                words = {"y": True, "yes": True, "true": True, "1": True,
                         "n": False, "no": False, "false": False, "0": False}  # fmt: skip
                if text.lower() not in words:
                    raise ValueError("expected yes or no")
                return words[text.lower()]
            case "string":
                if text.startswith('"'):
                    try:
                        return json.loads(text)
                    except ValueError:
                        pass  # a text that begins so
                return text
            case "integer":
                return _parsed(int, text, "a whole number")
            case "number":
                return _parsed(float, text, "a number")
            case _:
                return _parsed(json.loads, text, "JSON")


def fields(schema: Schema) -> list[Field] | None:
    """Return the questions for an action; None when it must be given whole, as JSON."""
    try:
        root = resolved(schema, schema)
    except LookupError:
        return None
    if not isinstance(root, dict) or not isinstance(root.get("properties"), dict):
        return None
    required = root.get("required", [])
    return [
        Field(name, _known(inner, schema), schema, name in required)
        for name, inner in root["properties"].items()
        if name != _LEFT_OUT or name in required
    ]


def _known(schema: Schema, root: Schema) -> Schema:
    try:
        return resolved(schema, root)
    except LookupError:
        return {}


def _plain(schema: Schema) -> dict[str, Any]:
    """Return the schema of what is not null, where that is one thing."""
    if not isinstance(schema, dict):
        return {}
    for key in ("anyOf", "oneOf"):
        others = [one for one in schema.get(key, []) if one != {"type": "null"}]
        if len(others) == 1 and isinstance(others[0], dict) and "$ref" not in others[0]:
            return others[0]
    return schema


def _bounds(schema: Schema) -> str:
    said = list(_said(schema))
    return f", {' and '.join(said)}" if said else ""


def _said(schema: Schema) -> Iterator[str]:
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}"
        return
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "exclusiveMinimum": "more than {}",
        "exclusiveMaximum": "less than {}",
        "maxLength": "at most {} characters",
        "pattern": "matching {}",
    }
    for key, text in words.items():
        if key in schema:
            yield text.format(schema[key])


def _written(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _parsed(read: Any, text: str, expected: str) -> Any:
    try:
        return read(text)
    except ValueError:
        raise ValueError(f"expected {expected}") from None
