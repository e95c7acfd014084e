"""Complaints about bugs that are known and not yet mended: reported once, not for each case.

Remove a row when its bug is mended; then the fuzzer finds it again if it comes back.
"""

from __future__ import annotations

from tests.fuzz.judge import Played

# a part of the complaint → the bug
KNOWN: dict[str, str] = {}


def known(played: Played) -> str:
    """Return the bug, if every complaint is about one that is known."""
    bugs = [
        next((bug for part, bug in KNOWN.items() if part in text), "")
        for text in played.complaints
    ]
    return "; ".join(dict.fromkeys(bugs)) if all(bugs) else ""
