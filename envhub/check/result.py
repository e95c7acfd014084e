"""What a check says: one claim, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_MOST_LINES = 20  # of a traceback
_NOT_THEIRS = ("/opt/envhub/", '"<frozen ', "/importlib/", "/concurrent/", "/asyncio/")
NOT_STARTED = "it does not start"
Status = Literal["passed", "failed", "warning", "not applicable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one check.

    Args:
        status: "warning" is for what may be meant so, and fails nothing.
        seen: what was seen, or why it does not apply; one sentence, or "".
        advice: what the author can do about it, or "".
        details: more of what was seen, a line each.
        figures: what was measured, with units in the names.
    """

    status: Status
    seen: str = ""
    advice: str = ""
    details: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the report.

    Args:
        id: stable, for `--only`, `--skip` and programs.
        claim: what a conforming environment does, in one sentence.
        verdict: what came of it.
        elapsed_s: how long that took.
    """

    id: str
    claim: str
    verdict: Verdict
    elapsed_s: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        verdict = self.verdict
        return {
            "id": self.id,
            "claim": self.claim,
            "status": verdict.status,
            "seen": verdict.seen,
            "advice": verdict.advice,
            "details": list(verdict.details),
            "figures": dict(verdict.figures),
            "elapsed_s": round(self.elapsed_s, 3),
        }


@dataclass
class Report:
    """All results, and what they are about.

    Args:
        about: the environment, the isolation, and how it was played; plain data.
        results: in the order in which they were tried.
    """

    about: dict[str, Any]
    results: list[Result] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.count("failed")

    def count(self, status: Status) -> int:
        """Return how many results have this status."""
        return Counter(result.verdict.status for result in self.results)[status]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**self.about, "ok": self.ok, "results": [r.as_json() for r in self.results]}


def own_frames(text: str) -> tuple[str, ...]:
    """Return the end of a traceback, from the first frame that is neither ours nor Python's."""
    lines = text.strip().splitlines()
    begin = 0
    for at, line in enumerate(lines):
        if line.lstrip().startswith('File "') and not any(part in line for part in _NOT_THEIRS):
            begin = at
            break
    return tuple(lines[begin:][-_MOST_LINES:])


def passed(seen: str = "", **figures: Any) -> Verdict:
    """Return that the claim holds."""
    return Verdict("passed", seen, figures=figures)


def failed(seen: str, advice: str, details: tuple[str, ...] = ()) -> Verdict:
    """Return that it does not."""
    return Verdict("failed", seen, advice, details)


def not_applicable(reason: str) -> Verdict:
    """Return that there is nothing to say, and why."""
    return Verdict("not applicable", reason)
