"""Complaints about bugs that are known and not yet mended: reported once, not for each case.

Remove a row when its bug is mended; then the fuzzer finds it again if it comes back.
"""

from __future__ import annotations

from tests.fuzz.judge import Played

# a part of the complaint → the bug
KNOWN: dict[str, str] = {
    "left alive": "a payload that cannot be decoded ends the call and not the process",
    "UnicodeDecodeError": "a hello that is no UTF-8 ends the hub",
    "AssertionError": "a describe answered by something else",
    "closing: ": "an environment that fails to close",
    "`accepted`, and not to ['protocol']": "a reply after a breach is taken",
    "`accepted`, and not to ['worker_lost']": "a reply after a breach is taken",
    "a loss between two calls": "a process that ends between two calls is replaced in silence",
}
CLOSES: dict[str, str] = {
    "and not to ['accepted']": "an environment that fails to close",
}
ZYGOTES: dict[str, str] = {
    "leaked": "a wedged worker is kept, an empty packet's descriptor and a forged end leak",
}


def known(played: Played) -> str:
    """Return the bug, if every complaint is about one that is known."""
    table = dict(KNOWN)
    if played.case.where == "zygote":
        table |= ZYGOTES
    if played.case.call == "close":
        table |= CLOSES
    bugs = [
        next((bug for part, bug in table.items() if part in text), "")
        for text in played.complaints
    ]
    return "; ".join(dict.fromkeys(bugs)) if all(bugs) else ""
