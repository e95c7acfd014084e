"""What an environment's types look like, in a form that a client can hold it to. No I/O.

A trainer is written against an environment's actions and observations. It may pin them: by
the digest, or by the whole document that GET /schema and `envhub schema` give, and then an
environment that has changed since is an error that says in what, and not a run that learns
from something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from envhub.errors import RemoteProtocolError, SchemaMismatch, UsageError
from envhub.wire import native
from envhub.wire.messages import Described

PARTS = ("action", "observation", "state", "reset_observation")
PREFIX = "sha256:"
_MOST_LINES = 50
_DEEPEST = 64
Pinned = str | Mapping[str, Any]


def document(described: Described | native.Described) -> dict[str, Any]:
    """Return the JSON Schemas of an environment's types by name.

    Raises:
        RemoteProtocolError: one is not JSON.
    """
    try:
        return {part: msgspec.json.decode(getattr(described, part)) for part in PARTS}
    except (msgspec.DecodeError, RecursionError) as error:
        raise RemoteProtocolError(f"a schema of the worker's is not JSON: {error}") from None


def digest(schemas: Mapping[str, Any]) -> str:
    """Return the digest of such a document; the order of its keys does not matter."""
    text = msgspec.json.encode({part: schemas.get(part) for part in PARTS}, order="sorted")
    return PREFIX + hashlib.sha256(text).hexdigest()


def check(environment: str, found: Mapping[str, Any], pinned: Pinned) -> None:
    """Hold an environment to what a client has pinned.

    Args:
        environment: its name and version, for the message.
        found: its document.
        pinned: a digest, or a document.

    Raises:
        SchemaMismatch: it is another now.
        UsageError: `pinned` is neither a digest nor a document.
    """
    changes: tuple[str, ...] = ()
    if isinstance(pinned, str):
        if not pinned.startswith(PREFIX):
            raise UsageError(f"expected a digest such as `{PREFIX}…`, got `{pinned[:80]}`")
        expected, hint = pinned, "`envhub schema NAME`, or GET /schema, shows what it is now"
    else:
        expected, hint = digest(pinned), ""
        changes = difference(pinned, found)
    actual = digest(found)
    if expected == actual:
        return
    said = "".join(f"\n  {line}" for line in changes)
    raise SchemaMismatch(
        f"{environment} has another schema than was pinned{said}",
        expected=expected,
        found=actual,
        difference=changes,
        hint=hint,
    )


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what has changed, a line each, such as "action.properties.n: removed"."""
    lines: list[str] = []
    for part in PARTS:
        for line in _changes(part, old.get(part), new.get(part), _DEEPEST):
            if len(lines) == _MOST_LINES:
                return (*lines, "and more")
            lines.append(line)
    return tuple(lines)


def _changes(path: str, old: Any, new: Any, depth: int) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and depth:
        for key in sorted({*old, *new}):
            where = f"{path}.{key}"
            if key not in new:
                yield f"{where}: removed"
            elif key not in old:
                yield f"{where}: added, {_shown(new[key])}"
            else:
                yield from _changes(where, old[key], new[key], depth - 1)
    elif old != new:
        yield f"{path}: {_shown(old)} became {_shown(new)}"


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}…"
