"""`python -m tests.fuzz --minutes N`: make up cases until the time is over; keep what fails."""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import itertools
import time
from collections import Counter
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz import cases, strategies
from tests.fuzz.arena import Arena
from tests.fuzz.cases import Case
from tests.fuzz.judge import Played
from tests.fuzz.known import known
from tests.fuzz.play import play

_BLOCK = 400  # cases; Hypothesis counts its own memory by them
_REPORT_S = 20.0
_GROWTH_MIB = 64  # of the hub, from its hundredth case on
_HANG_S = 150.0
_KEPT = 3  # cases of one complaint
_SPOIL = ("leaked", "dead", "launcher", "grew", "logged", "does not answer", "unjudged")
_SETTINGS = settings(
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class Over(BaseException):
    """The time is over. Not an Exception: Hypothesis would look for a smaller one."""


class Run:
    """A long run: its arena, its figures, and what it found.

    Args:
        minutes: how long.
        folder: where failing cases are kept.
    """

    def __init__(self, minutes: float, folder: Path) -> None:
        self._began = time.monotonic()
        self._until = self._began + minutes * 60
        self._folder = folder
        self._report_at = self._began + _REPORT_S
        self._arena = Arena()
        self._played = 0  # in this arena
        self._size = 0
        self.outcomes: Counter[str] = Counter()
        self.found: Counter[str] = Counter()

    def once(self, case: Case) -> None:
        """Play a case; raise Over when the time is."""
        if time.monotonic() > self._until:
            raise Over
        cases.save(case, "running", self._folder)  # what a hang leaves behind
        faulthandler.dump_traceback_later(_HANG_S, exit=True)
        played = play(self._arena, case)
        faulthandler.cancel_dump_traceback_later()
        self.outcomes[f"{case.where:9} {played.word.partition('(')[0]}"] += 1
        self._grow(played)
        if played.complaints:
            self._keep(played)
            if not known(played) or any(
                part in t for t in played.complaints for part in _SPOIL
            ):
                self._replace()
        if time.monotonic() > self._report_at:
            self._report_at += _REPORT_S
            print(self.line(), flush=True)

    def line(self) -> str:
        """Return how far it is."""
        seconds = time.monotonic() - self._began
        count = self.outcomes.total()
        new = sum(n for text, n in self.found.items() if not text.startswith("known"))
        return (
            f"{seconds:6.0f} s  {count} cases  {count / seconds:.1f}/s  "
            f"{new} new and {self.found.total() - new} known complaints"
        )

    def close(self) -> None:
        """End the arena and print the summary."""
        faulthandler.cancel_dump_traceback_later()
        left = self._arena.close()
        (self._folder / "running.json").unlink(missing_ok=True)
        print(self.line())
        for word, count in sorted(self.outcomes.items()):
            print(f"  {count:6} {word}")
        for text, count in [*self.found.items(), *((text, 1) for text in left)]:
            print(f"  {count:6} complaint: {text}")

    def _grow(self, played: Played) -> None:
        self._played += 1
        size = memory()
        if self._played == 100:
            self._size = size
        elif self._size and size > self._size + _GROWTH_MIB:
            played.complain(f"the hub grew from {self._size} to {size} MiB")

    def _keep(self, played: Played) -> None:
        reason = known(played)
        text = f"known: {reason}" if reason else "; ".join(played.complaints)
        self.found[text] += 1
        if reason or self.found[text] > _KEPT:
            return
        print(f"NEW: {text}", flush=True)
        case = msgspec.structs.replace(played.case, attacks=text, bug=text)
        digest = hashlib.sha256(msgspec.json.encode(case)).hexdigest()[:8]
        cases.save(case, f"found-{digest}", self._folder)

    def _replace(self) -> None:
        self._arena.close()
        self._arena, self._played, self._size = Arena(), 0, 0


def memory() -> int:
    """Return the size of this process, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 >> 20


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--keep", type=Path, default=cases.CORPUS, help="folder for failures")
    parser.add_argument("--only", choices=["sessions", "zygotes"])
    arguments = parser.parse_args()
    arguments.keep.mkdir(exist_ok=True)
    run = Run(arguments.minutes, arguments.keep)

    @settings(_SETTINGS, max_examples=_BLOCK)
    @given(strategies.sessions())
    def of_sessions(case: Case) -> None:
        run.once(case)

    @settings(_SETTINGS, max_examples=_BLOCK // 40)  # each is a start of two workers
    @given(strategies.zygotes())
    def of_zygotes(case: Case) -> None:
        run.once(case)

    blocks = {"sessions": of_sessions, "zygotes": of_zygotes}
    try:
        for kind in itertools.cycle([arguments.only] if arguments.only else blocks):
            blocks[kind]()
    except (Over, KeyboardInterrupt):
        pass
    finally:
        run.close()


if __name__ == "__main__":
    main()
