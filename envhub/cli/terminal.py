"""Text of an environment's on a person's terminal: it must not be able to steer it."""

from __future__ import annotations

import re

# control characters but newline and tab, what overrides the direction of text, and surrogates
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Return the text with every character that steers a terminal written out."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)
