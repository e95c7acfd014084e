"""What may differ between two runs of the same server, and so between two servers.

A mask hides the value and nothing else: its place, its type, the keys beside it and their
order are compared. Ids are numbered as they first appear in a conversation, so that an id that
changes where the other server's stays is a difference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.differential.replay import Reply

_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
# pydantic's links name its version, and the hub's need not be the environment's
_LINK = re.compile(r"(errors\.pydantic\.dev/)\d+\.\d+(/)")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Mask:
    """Hides what stands at some keys.

    Args:
        keys: of JSON objects, wherever they are.
        why: it cannot be the same twice.
        kinds: the value's type may differ, too.
    """

    keys: tuple[str, ...]
    why: str
    kinds: bool = False

    def hide(self, text: str) -> str:
        """Return a reply without the values."""
        return _hidden(text, self)


@dataclass(frozen=True, slots=True)
class Words:
    """Hides what a regular expression matches.

    Args:
        pattern: of the text of a reply.
        why: it cannot be the same twice.
    """

    pattern: str
    why: str

    def hide(self, text: str) -> str:
        """Return a reply without the words."""
        return re.sub(self.pattern, "<words>", text)


def masked(
    replies: Sequence[Reply], masks: Sequence[Mask | Words], places: Sequence[str]
) -> tuple[list[Reply], set[Mask | Words]]:
    """Return the replies with what may differ made the same, and the masks that hid anything.

    Args:
        replies: of one server.
        masks: of the environment.
        places: where that server has the environment's folder; tracebacks name it.
    """
    seen: dict[tuple[str, str], str] = {}

    def numbered(match: re.Match[str]) -> str:
        among = sum(talk == reply.talk for talk, _ in seen)
        return seen.setdefault((reply.talk, match[0]), f"<id {among}>")

    found: list[Reply] = []
    used: set[Mask | Words] = set()
    for reply in replies:
        text = _LINK.sub(r"\1*\2", _UUID.sub(numbered, reply.text))
        for place in places:
            text = text.replace(place, "<folder>")
        for mask in masks:
            hidden = mask.hide(text)
            used |= {mask} if hidden != text else set()
            text = hidden
        found.append(Reply(reply.talk, reply.label, text))
    return found, used


def _hidden(text: str, mask: Mask) -> str:
    pattern = re.compile("|".join(rf'"{re.escape(key)}":' for key in mask.keys))
    parts, at = [], 0
    while match := pattern.search(text, at):
        try:
            value, end = _DECODER.raw_decode(text, match.end())
        except ValueError:  # inside of a text, where quotes are escaped
            parts.append(text[at : match.end()])
            at = match.end()
            continue
        parts += [
            text[at : match.end()],
            '"<any>"' if mask.kinds else json.dumps(_shape(value)),
        ]
        at = end
    return "".join([*parts, text[at:]])


def _shape(value: Any) -> Any:
    match value:
        case dict():
            return {key: _shape(each) for key, each in value.items()}
        case list():  # one of each shape there is; how many there are is a value
            shapes = {json.dumps(_shape(each)) for each in value}
            return sorted(shapes)
        case None:
            return None
        case _:
            return f"<{type(value).__name__}>"
