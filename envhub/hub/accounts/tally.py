"""What is counted of one session, on the path of every step: plain attributes, and no lock.

Whoever calls the session writes, on whichever thread; anybody may read. A sum over sessions is
made when somebody asks for it, so that no two of them ever write to the same place.
"""

from __future__ import annotations

import secrets
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Literal

from envhub.errors import EnvhubError, SessionClosed, WorkerError
from envhub.hub.accounts.events import DEBUG, INFO, tell
from envhub.wire.messages import Finished, Observed, Reply
from envhub_sandbox import SandboxError

# upper bounds of the buckets of step times; a session's own hop takes 0.1 ms
BOUNDS_S = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0, 60.0,
)  # fmt: skip
State = Literal["opening", "idle", "calling", "lost"]
Error = tuple[str, str]  # code of envhub.errors, and verdict or ""
_SAY_S = 1.0  # between two lines on sessions of one environment that one reason kept closed
_said: dict[tuple[str, str], float] = {}
SANDBOX = "sandbox"  # for errors of envhub_sandbox, which have no code


@dataclass
class Totals:
    """Sums over sessions of one environment.

    Args:
        opened: sessions.
        closed: sessions, by why.
        episodes: begun.
        steps: answered.
        step_s: that these took together.
        buckets: of them, one for each of BOUNDS_S and one for what is slower.
        errors: by code and verdict.
    """

    opened: int = 0
    closed: dict[str, int] = field(default_factory=dict)
    episodes: int = 0
    steps: int = 0
    step_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    errors: dict[Error, int] = field(default_factory=dict)

    def add(self, other: Totals | Tally) -> None:
        """Add the counts of a session, or of others."""
        self.opened += other.opened
        self.episodes += other.episodes
        self.steps += other.steps
        self.step_s += other.step_s
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        for error, times in dict(other.errors).items():  # a copy: another thread may write
            self.errors[error] = self.errors.get(error, 0) + times
        if isinstance(other, Totals):
            for why, times in other.closed.items():
                self.closed[why] = self.closed.get(why, 0) + times


class Tally:
    """One session's counts, and what it does now.

    Args:
        environment: its name.

    Attributes:
        id: short and random; by it nobody can use the session.
        opened: 1 once it is open.
        opened_at: when, in time.time's seconds.
        began: when that was, or when it was asked for, in time.monotonic's seconds.
        stage: of the last call.
        since: when that began, or ended; in time.monotonic's seconds.
        lost: the episode is, with its process; only a reset goes on.
    """

    __slots__ = (
        "_calling", "_failed", "began", "buckets", "environment", "episodes", "errors", "id",
        "lost", "opened", "opened_at", "since", "stage", "step_s", "steps",
    )  # fmt: skip

    def __init__(self, environment: str = "") -> None:
        self.id = secrets.token_hex(6)
        self.environment = environment
        self.opened = 0
        self.opened_at = time.time()
        self.began = self.since = time.monotonic()
        self.stage = "open"
        self.lost = False
        self.episodes = 0
        self.steps = 0
        self.step_s = 0.0
        self.buckets = [0] * (len(BOUNDS_S) + 1)
        self.errors: dict[Error, int] = {}
        self._calling = True
        self._failed = False

    @property
    def state(self) -> State:
        """What it does now."""
        if not self.opened:
            return "opening"
        if self._calling:
            return "calling"
        return "lost" if self.lost else "idle"

    def open(self) -> None:
        """Note that it is open."""
        waited_s, self.opened_at, self.began = self._waited_s(), time.time(), time.monotonic()
        self.opened = 1
        tell(INFO, "session opened", **self.place, took_s=waited_s)

    def begin(self, stage: str) -> None:
        """Note that a call begins."""
        self.stage = stage
        self._calling = True
        self._failed = False
        self.since = time.monotonic()

    def end(self, reply: Reply | None, now: float, *, lost: bool) -> None:
        """Note that a call has ended.

        Args:
            reply: None when there was none.
            now: in time.monotonic's seconds.
            lost: its process is gone.
        """
        took_s, self.since, self._calling = now - self.since, now, False
        if isinstance(reply, Observed):
            if self.stage == "reset":
                self.episodes += 1
                self.lost = False
            elif not reply.is_part:
                self.steps += 1
                self.step_s += took_s
                self.buckets[bisect_left(BOUNDS_S, took_s)] += 1
        elif lost:
            self.lost = True
            if not self._failed:  # its caller went away in the middle of the call
                tell(INFO, "episode lost", **self.place, stage=self.stage, cause="cancelled")
        elif isinstance(reply, Finished):  # the last part of a step had said there may be more
            self.steps += 1
            self.step_s += took_s
            self.buckets[bisect_left(BOUNDS_S, took_s)] += 1

    def batch(self, *, steps: int, episodes: int, took_s: float) -> None:
        """Note what many environments have done in one call."""
        self.episodes += episodes
        self.lost = False
        if steps:
            self.steps += steps
            self.step_s += took_s
            self.buckets[bisect_left(BOUNDS_S, took_s / steps)] += steps

    def failed(self, error: EnvhubError | SandboxError) -> None:
        """Note why a call, or the opening, has no reply. Before `end`."""
        self._failed = True
        code = error.code if isinstance(error, EnvhubError) else SANDBOX
        cause = error.verdict if isinstance(error, WorkerError | SessionClosed) else ""
        self.errors[code, cause] = self.errors.get((code, cause), 0) + 1
        what, level = "call failed", DEBUG
        passed: dict[str, str | float] = {}
        if not self.opened:
            what, level = "session not opened", INFO
            # who asks again and again for what cannot be opened fills no disk
            if (now := time.monotonic()) - _said.get((self.environment, code), 0.0) < _SAY_S:
                level = DEBUG
            else:
                _said[self.environment, code] = now
        elif isinstance(error, WorkerError):
            what, level = "episode lost", INFO
            if error.limit:
                passed = {
                    "limit": error.limit, "allowed": error.allowed, "observed": error.observed
                }  # fmt: skip
        tell(level, what, **self.place, stage=self.stage, code=code, cause=cause, **passed)

    def close(self, why: str) -> None:
        """Note that it is over."""
        if self.opened:
            tell(
                INFO, "session closed", **self.place, why=why, steps=self.steps,
                lasted_s=self._waited_s(),
            )  # fmt: skip

    @property
    def place(self) -> dict[str, str | int]:
        """What every line of a log says of a session."""
        return {
            "session": self.id, "environment": self.environment, "episode": self.episodes
        }  # fmt: skip

    def _waited_s(self) -> float:
        return round(time.monotonic() - self.began, 6)
