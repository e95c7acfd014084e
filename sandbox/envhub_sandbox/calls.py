"""System calls as data: what a plan consists of, for people and for the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import syscalls


@dataclass(frozen=True, slots=True)
class Call:
    """One system call of a plan.

    Args:
        layer: what it helps to build.
        what: says it in words, for the error.
        arguments: of syscall(2), the number first.
        result: what it must return; None for anything but an error. A descriptor that is
            opened must be the one that the calls after it name.
    """

    layer: str
    what: str
    arguments: tuple[syscalls.Argument, ...]
    result: int | None = None


class Plan:
    """Calls, and the same as the table that is run.

    Args:
        calls: in order.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self.calls = calls
        self.table = syscalls.Table([call.arguments for call in calls])
        # what each must return, beside its row: a child need not look at its Call
        self.results = [call.result for call in calls]
