"""Tenure: until when a session, its episode and its call may go on.

Calls come from the session's own thread, looks from the hub's. They agree on who was first: a
session is not closed for idleness under a call that has begun, and a call does not begin in one
that was closed. For that a call says that it has begun before it looks at what was found idle,
and who finds it idle looks at that word again; so only where there is something to agree on
does a call take the lock.
"""

from __future__ import annotations

import threading
from time import monotonic

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
        until: when it has passed, likewise.
    """

    reason: OwnReason
    limit: str
    allowed_s: float
    since: float
    until: float

    @property
    def left_s(self) -> float:
        """Seconds left; negative once it has passed."""
        return self.until - monotonic()

    @property
    def passed(self) -> Passed:
        """The limit, with the seconds that have gone by until now."""
        return Passed(self.limit, self.allowed_s, monotonic() - self.since)


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
        self._called = monotonic()
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
        self._calling = True  # first: who finds the session idle looks at it once more
        if self._idle is not None or self._episode is not None:
            self._begin_with_care(stage)
        self._tally.begin(stage)

    def _begin_with_care(self, stage: str) -> None:
        with self._lock:
            self._calling = False
            if self._idle is not None:
                raise self.closed()
            episode = None if stage in _BESIDE_EPISODES else self._episode
            if episode is not None and self._cut is None and episode.left_s <= 0:
                self._cut = episode.passed
            if episode is not None and self._cut is not None:
                self._called = monotonic()
                over = _over(stage, self._cut)
                self._tally.failed(over)
                raise over
            self._calling = True

    def deadline(self, stage: str, since: float | None = None) -> Deadline:
        """Return when what is asked of the process must be answered.

        Args:
            stage: of the call.
            since: when it began, in time.monotonic's seconds; now by default.
        """
        limit = _LIMITS.get(stage, "state_s")
        since = monotonic() if since is None else since
        allowed_s = self._allowed[limit]
        call = Deadline("deadline", limit, allowed_s, since, since + allowed_s)
        episode = self._episode
        if episode is None or stage in _BESIDE_EPISODES or episode.until > call.until:
            return call
        return episode

    def cancelled(self) -> Deadline:
        """Return when a call that is cancelled now must be answered."""
        allowed_s, now = self._allowed["cancel_s"], monotonic()
        return Deadline("cancelled", "cancel_s", allowed_s, now, now + allowed_s)

    def end(self, stage: str, reply: Reply | None = None, *, lost: bool = False) -> None:
        """End a call.

        Args:
            stage: as given to `begin`.
            reply: None when the environment could not answer.
            lost: its process has ended, or was killed, and the episode with it.
        """
        now = self._called = monotonic()
        self._tally.end(reply, now, lost=lost)
        if self._episode is None and stage != "reset":  # nothing for which to take the lock
            self._calling = False
            return
        with self._lock:
            self._calling = False
            episode, self._cut = self._episode, None
            done = isinstance(reply, Observed) and (reply.terminated or reply.truncated)
            if stage == "reset" or lost or done:
                self._episode = None
            allowed_s = self._allowed["episode_s"]
            if stage == "reset" and isinstance(reply, Observed) and allowed_s and not done:
                until = now + allowed_s
                self._episode = Deadline("episode_deadline", "episode_s", allowed_s, now, until)
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
        if not allowed_s or self._calling:
            return None
        with self._lock:
            silent_s = monotonic() - self._called
            if self._idle is None and silent_s > allowed_s:
                self._idle = Passed("idle_s", allowed_s, silent_s)
                if self._calling:  # since we looked: that call is in time
                    self._idle = None
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
