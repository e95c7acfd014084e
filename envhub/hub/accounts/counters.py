"""Counters: what has happened in a hub since it was made, and which sessions it has.

Only the hub's event loop writes here. What is counted at each step is in the session's own
`Tally`, and is added to these when it closes, or when somebody asks for the sum.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from envhub.hub.accounts import facts
from envhub.hub.accounts.events import INFO, WARNING, tell
from envhub.hub.accounts.facts import SessionFacts
from envhub.hub.accounts.tally import Totals

if TYPE_CHECKING:
    from envhub.hub.places.place import Place

_SAY_S = 1.0  # between two lines on refusals for one reason: who floods us floods no log


class Counters:
    """Those of one hub.

    Attributes:
        refused: clients that were not served, by why: "no_place", "queue_full", "memory" and
            "closing" by the hub, "token", "origin", "environment", "quota" and "rate" by the
            door.
        worker_starts: by whose they are: an environment, or one "for agent code".
        worker_deaths: likewise; of those that ended by themselves.
        closing: the hub is, so that this is why a session closes.
    """

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.worker_starts: dict[str, int] = {}
        self.worker_deaths: dict[str, int] = {}
        self.closing = False
        self._totals: dict[str, Totals] = {}
        self._places: dict[str, Place] = {}
        self._said: dict[str, tuple[float, int]] = {}

    # ------------------------------------------------------------ sessions

    def enter(self, place: Place) -> None:
        """Note that a place is taken."""
        self._places[place.tally.id] = place
        self._totals.setdefault(place.tally.environment, Totals())

    def leave(self, place: Place) -> None:
        """Note that a place is free. Idempotent."""
        tally = place.tally
        if self._places.pop(tally.id, None) is None:
            return
        why = place.why or ("hub closed" if self.closing else "closed")
        totals = self._totals[tally.environment]
        totals.add(tally)
        if tally.opened:
            totals.closed[why] = totals.closed.get(why, 0) + 1
        tally.close(why)

    def sessions(self) -> list[SessionFacts]:
        """Return what is known of each session that is open or opening, the oldest first."""
        return [facts.of(place) for place in self._places.values()]

    def session(self, session: str) -> SessionFacts | None:
        """Return what is known of one of them, with its bill; None if there is none."""
        place = self._places.get(session)
        return facts.of(place, with_bill=True) if place is not None else None

    async def end(self, session: str) -> bool:
        """Close a session for an operator. Return whether there is one of that id."""
        place = self._places.get(session)
        if place is None:
            return False
        place.why = "operator"
        await place.aclose()
        return True

    def totals(self) -> dict[str, Totals]:
        """Return the sums by environment, of those that have been used."""
        found: dict[str, Totals] = {}
        for name, before in self._totals.items():
            found[name] = Totals()
            found[name].add(before)
        for place in self._places.values():
            found[place.tally.environment].add(place.tally)
        return found

    # ------------------------------------------------------------ what is no session's

    def refuse(self, why: str, times: int = 1) -> None:
        """Count clients that are not served; say so, but not more than once in a second."""
        self.refused[why] = count = self.refused.get(why, 0) + times
        said_at, said = self._said.get(why, (0.0, 0))
        if (now := time.monotonic()) - said_at >= _SAY_S:
            self._said[why] = now, count
            tell(INFO, "clients refused", why=why, clients=count - said)

    def worker_started(self, name: str) -> None:
        """Count a worker that is ready to fork."""
        before = self.worker_starts.get(name, 0)
        self.worker_starts[name] = before + 1
        tell(INFO, "worker replaced" if before else "worker started", environment=name)

    def worker_died(self, name: str) -> None:
        """Count a worker that has ended by itself, and every session of it."""
        self.worker_deaths[name] = self.worker_deaths.get(name, 0) + 1
        tell(WARNING, "worker died", environment=name)

    def broke(self, name: str, error: Exception) -> None:
        """Say that an environment cannot be started, and what it had printed."""
        tell(
            WARNING,
            "environment broken",
            environment=name,
            error=f"{type(error).__name__}: {error}",
            output=str(getattr(error, "output", ""))[-facts.TAIL_CHARS :],
        )
