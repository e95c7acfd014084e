"""A place in a hub: what a session holds while it is open, and what ends with the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from envhub.errors import EnvhubError
from envhub.hub.accounts.meter import Meter
from envhub.hub.accounts.tally import Tally
from envhub.hub.calls.tenure import Tenure
from envhub.hub.workers.pool import Lease, Pool
from envhub.hub.workers.process import SessionProcess
from envhub_sandbox import SandboxError


class Place:
    """Counts as one session, and owns the processes that it leases.

    Args:
        pool: of the environment.
        release: called once, when the place is free again.
        client: whose it is.

    Attributes:
        tenure: the session's clocks.
        meter: what it uses.
        tally: of its session.
        why: it is closed, if not because its owner wanted that.
    """

    def __init__(self, pool: Pool, release: Callable[[], None], client: str = "") -> None:
        self.pool = pool
        self.client = client
        self.tally = Tally(pool.manifest.name)
        self.tenure = Tenure(pool.manifest.deadlines, self.tally)
        self.meter = Meter()
        self.why = ""
        self._kept_bytes = 0
        self._release = release
        self._held: dict[int, Lease] = {}
        self._before_close: Callable[[], Awaitable[None]] | None = None
        self._closed = False
        pool.counters.enter(self)

    @property
    def process(self) -> SessionProcess | None:
        """The session's process, if it has one now."""
        return next((lease.process for lease in self._held.values()), None)

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` end the session when the hub closes the place."""
        self._before_close = close

    async def lease(self) -> Lease:
        """Return a process.

        Raises: as `Pool.lease`; SessionClosed when the place is given up meanwhile.
        """
        try:
            with self.meter.waiting():
                lease = await self.pool.lease()
        except (EnvhubError, SandboxError) as error:
            if not self.tally.opened:  # later, it is the call's
                self.tally.failed(error)
            raise
        if self._closed:
            await self.pool.end(lease)
            raise self.tenure.closed()
        lease.process.kept_bytes = self._kept_bytes
        self._held[id(lease)] = lease
        self.meter.hold(lease)
        return lease

    def keep(self, count: int) -> None:
        """Note how many bytes are kept for the session: they count as its processes'."""
        self._kept_bytes = count
        for lease in self._held.values():
            lease.process.kept_bytes = count

    async def end(self, lease: Lease) -> None:
        """End a process. Idempotent."""
        if self._held.pop(id(lease), None) is not None:
            try:
                await self.pool.end(lease)
            finally:
                self.meter.release(lease)

    def look(self) -> bool:
        """Kill what has outlived its episode. Return whether nobody has called for too long.

        A session that is left alone must be closed then, by `aclose`.
        """
        if overdue := self.tenure.overdue():
            for lease in self._held.values():
                lease.process.kill("episode_deadline", overdue)
        idle = self.tenure.idle()
        if idle is not None:
            self.why = self.why or "idle"
        if idle is not None and self._before_close is None:  # nobody to ask it to close
            for lease in self._held.values():
                lease.process.kill("idle", idle)
        return idle is not None

    async def aclose(self) -> None:
        """End what is left, and give the place back. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._before_close is not None:
                await self._before_close()
        finally:
            try:
                for lease in list(self._held.values()):
                    await self.end(lease)
            finally:
                self.pool.counters.leave(self)
                self._release()
