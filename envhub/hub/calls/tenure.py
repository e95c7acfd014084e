"""Tenure: until when a session, its episode and its call may go on.

Calls come from the session's own thread, looks from the hub's. A lock makes them agree on who
was first: a session is not closed for idleness under a call that has begun, and a call does
not begin in one that was closed.
"""

from __future__ import annotations

import threading
import time

import msgspec

from envhub.errors import DeadlineExceeded, EnvhubError, SessionClosed
from envhub.hub.accounts.tally import Tally
from envhub.hub.environments.manifest import Deadlines
from envhub.wire.messages import Observed, Reply
from envhub_sandbox import OwnReason, Passed

_LIMITS = {"reset": "reset_s", "step": "step_s", "close": "close_s"}  # others': state_s
_BESIDE_EPISODES = ("reset", "close")


class Deadline(msgspec.Struct, frozen=True):
    """When something must be over.

    Args:
        reason: for which the process is killed then.
        limit: by its name in env.toml.
        allowed_s: seconds.
        since: when they began, in time.monotonic's seconds.
    """

    reason: OwnReason
    limit: str
    allowed_s: float
    since: float

    @property
    def until(self) -> float:
        """When it has passed, in time.monotonic's seconds."""
        return self.since + self.allowed_s

    @property
    def left_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.until - time.monotonic()

    @property
    def passed(self) -> Passed:
        """The limit, with the seconds that have gone by until now."""
        return Passed(self.limit, self.allowed_s, time.monotonic() - self.since)


class Tenure:
    """The clocks of one session, which is being opened. May be used from any thread.

    Args:
        deadlines: of its environment.
        tally: counts its calls, for both begin and end here.
    """

    def __init__(self, deadlines: Deadlines, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._allowed: dict[str, float] = msgspec.structs.asdict(deadlines)
        self._lock = threading.Lock()
        self._calling = True
        self._called = time.monotonic()
        self._episode: Deadline | None = None
        self._cut: Passed | None = None
        self._idle: Passed | None = None

    def opened(self) -> None:
        """Note that the session is open, and its client's to call."""
        self.end("open")
        self._tally.open()

    def begin(self, stage: str) -> None:
        """Begin a call; every one that was begun is ended by `end`.

        Args:
            stage: "reset", "step", "state", "describe" or "close".

        Raises:
            SessionClosed: nobody had called it for too long.
            DeadlineExceeded: its episode's time is over, and this is no reset.
        """
        with self._lock:
            if self._idle is not None:
                raise self.closed()
            if self._episode is not None and stage not in _BESIDE_EPISODES:
                self._begin_in(self._episode, stage)
            self._calling = True
            self._tally.begin(stage)

    def _begin_in(self, episode: Deadline, stage: str) -> None:
        if self._cut is None and episode.left_s <= 0:
            self._cut = episode.passed
        if self._cut is not None:
            self._called = time.monotonic()
            over = _over(stage, self._cut)
            self._tally.failed(over)
            raise over

    def deadline(self, stage: str) -> Deadline:
        """Return when what is asked of the process now must be answered."""
        limit = _LIMITS.get(stage, "state_s")
        call = Deadline("deadline", limit, self._allowed[limit], time.monotonic())
        episode = self._episode
        if episode is None or stage in _BESIDE_EPISODES or episode.until > call.until:
            return call
        return episode

    def cancelled(self) -> Deadline:
        """Return when a call that is cancelled now must be answered."""
        return Deadline("cancelled", "cancel_s", self._allowed["cancel_s"], time.monotonic())

    def end(self, stage: str, reply: Reply | None = None, *, lost: bool = False) -> None:
        """End a call.

        Args:
            stage: as given to `begin`.
            reply: None when the environment could not answer.
            lost: its process has ended, or was killed, and the episode with it.
        """
        with self._lock:
            self._calling = False
            self._called = time.monotonic()
            self._tally.end(reply, self._called, lost=lost)
            episode, self._cut = self._episode, None
            if episode is None and stage != "reset":
                return
            done = isinstance(reply, Observed) and (reply.terminated or reply.truncated)
            if stage == "reset" or lost or done:
                self._episode = None
            allowed_s = self._allowed["episode_s"]
            if stage == "reset" and isinstance(reply, Observed) and allowed_s and not done:
                self._episode = Deadline(
                    "episode_deadline", "episode_s", allowed_s, self._called
                )
            elif lost and stage != "reset" and episode is not None and episode.left_s <= 0:
                self._episode, self._cut = episode, episode.passed  # the next call is told

    def failed(self, error: EnvhubError) -> None:
        """Note why a call has no reply. Before its `end`."""
        self._tally.failed(error)

    def close(self) -> bool:
        """Close the session for its owner; False when it was closed for idleness before."""
        with self._lock:
            self._calling = True
            return self._idle is None

    def closed(self) -> SessionClosed:
        """Return the error for a call after the end."""
        idle = self._idle
        if idle is None:
            return SessionClosed("the session is closed")
        return SessionClosed(
            f"the session was closed after {idle.observed:.3g} s without a call",
            verdict="idle",
            limit=idle.limit,
            allowed=idle.allowed,
            observed=idle.observed,
            hint="open another, or raise `idle_s` under [deadlines] in env.toml",
        )

    def idle(self) -> Passed | None:
        """Return the limit if nobody has called for too long; the session must be closed."""
        allowed_s = self._allowed["idle_s"]
        with self._lock:
            silent_s = time.monotonic() - self._called
            if not allowed_s or self._calling or silent_s <= allowed_s:
                return None
            self._idle = self._idle or Passed("idle_s", allowed_s, silent_s)
            return self._idle

    def overdue(self) -> Passed | None:
        """Return the limit if the episode is over between two calls; kill its process."""
        with self._lock:
            if self._calling or self._episode is None or self._episode.left_s > 0:
                return None
            self._cut = self._cut or self._episode.passed
            return self._cut


def _over(stage: str, cut: Passed) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"`{stage}` of an episode whose time is over: {cut.allowed:g} s were allowed",
        verdict="episode_deadline",
        limit=cut.limit,
        allowed=cut.allowed,
        observed=cut.observed,
        hint="reset begins another",
    )
