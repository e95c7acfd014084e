"""Waiting for processes elsewhere: one frame with what they have begun, and one back."""

from __future__ import annotations

from collections.abc import Sequence

from envhub.client.native.exchange import exchange
from envhub.client.native.member import RemoteMember


def wait(members: Sequence[RemoteMember], least: int) -> None:
    """Send what these have begun, and wait until so many have the outcome of their calls.

    One that is interrupted by an exception is given up: nobody could place its reply.
    """
    pending = [member for member in members if member.is_pending]
    missing = least - (len(members) - len(pending))
    requests = [said for member in pending if (said := member.unsaid()) is not None]
    if not pending or (missing <= 0 and not requests):
        return
    first = missing if missing > 1 else 0

    def done() -> bool:
        return sum(not member.is_pending for member in pending) >= missing

    try:
        at_most_s = max(member.allowed_s for member in pending)
        exchange(members[0].line, requests, done, at_most_s, first)
    except BaseException:  # KeyboardInterrupt among them
        for member in members:
            member.abandon()
        raise
