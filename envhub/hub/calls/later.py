"""Calls whose caller is told of their outcome, and which could not be begun at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from envhub.errors import EnvhubError, WorkerStartFailed
from envhub.wire.messages import Observed
from envhub_sandbox import SandboxError

_log = logging.getLogger(__name__)
Done = Callable[[Observed | EnvhubError], None]


class Later:
    """Makes them, each in a task of its own.

    Args:
        what: they are, for the log.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._begun: set[asyncio.Task[None]] = set()

    def begin(self, call: Coroutine[None, None, Observed], done: Done) -> None:
        """Make a call, and have `done` told, once, of what it comes to."""
        task = asyncio.get_running_loop().create_task(self._told(call, done))
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    async def _told(self, call: Coroutine[None, None, Observed], done: Done) -> None:
        try:
            outcome: Observed | EnvhubError = await call
        except EnvhubError as error:
            outcome = error
        except SandboxError as error:  # no other process can be had
            outcome = WorkerStartFailed(str(error), hint=error.hint)
        except Exception:
            _log.exception("a bug in envhub: %s", self._what)
            outcome = EnvhubError("a bug in envhub")
        done(outcome)
