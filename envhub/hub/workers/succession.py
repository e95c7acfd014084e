"""A succession of workers: one serves at a time, until it ends or is wedged.

The next is started when somebody wants one. Workers that end again and again, having started
well, are followed more and more slowly. One that is wedged keeps its sessions, which run on
without it, and is closed when the last of them has ended.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from envhub.errors import CapacityError
from envhub.hub.accounts.events import WARNING, tell
from envhub.hub.workers.backoff import BackOff
from envhub.hub.workers.worker import Worker

Start = Callable[[Callable[[], None]], Awaitable[Worker]]


class Succession:
    """Workers of one kind, for one environment.

    Args:
        name: of the environment, for messages.
        start: starts one, and is given what to call when that ends by itself.
        tasks: where old ones are closed; it outlives the succession.
        wait_s: how long somebody may wait until the next is started at all.
        on_gone: called when the one that served has ended, or is wedged.
        has_changed: whether the next one is of other files than the last: it is not waited for
            because of those before.
        back_off: how fast one follows the other.
    """

    def __init__(
        self,
        name: str,
        start: Start,
        tasks: TaskGroup,
        *,
        wait_s: float,
        on_gone: Callable[[], None] = lambda: None,
        has_changed: Callable[[], Awaitable[bool]] | None = None,
        back_off: BackOff | None = None,
    ) -> None:
        self._name = name
        self._start = start
        self._tasks = tasks
        self._wait_s = wait_s
        self._on_gone = on_gone
        self._has_changed = has_changed
        self._back_off = back_off or BackOff()
        self._lock = anyio.Lock()  # a start under way holds it
        self._closed = anyio.Event()
        self._number = 0  # of the worker that serves, or is being started
        self.current: Worker | None = None
        self.wedged: list[Worker] = []

    @property
    def closed(self) -> bool:
        """Whether no worker is started any more."""
        return self._closed.is_set()

    @property
    def alive(self) -> int:
        """How many there are, those included that are wedged."""
        return sum(w is not None and w.alive for w in (self.current, *self.wedged))

    async def worker(self) -> Worker:
        """Return the worker that serves, started if need be.

        Raises:
            CapacityError: the hub is closing, or those before have ended so often that the
                next is started later than anybody waits.
            SandboxError, WorkerStartFailed, BuildFailed: it does not start.
        """
        async with self._lock:
            self._check_open()
            if self.current is not None and self.current.usable:
                return self.current
            await self._part()
            await self._wait_for_turn()
            self._number += 1
            number = self._number
            self.current = await self._start(lambda: self._note_end(number))
            self._back_off.began()
            if not self.current.alive:  # it ended before it was ours
                self._back_off.failed()
            return self.current

    def look(self) -> None:
        """See whether the zygote still answers, and close what nobody needs any more."""
        if self.current is not None:
            self.current.look()
            if self.current.wedged:
                self._note_wedged(self.current)
        self.tidy()

    def tidy(self) -> None:
        """Close wedged workers that no session needs any more; it takes them a while."""
        if not self.closed and any(worker.is_idle for worker in self.wedged):
            self._tasks.start_soon(self._close_wedged)

    async def aclose(self) -> None:
        """End the workers, and all that they forked. Idempotent."""
        self._closed.set()
        with anyio.CancelScope(shield=True):
            async with self._lock:  # so that one being started is here
                for worker in (self.current, *self.wedged):
                    if worker is not None:
                        await worker.aclose()

    def _check_open(self) -> None:
        if self.closed:
            raise CapacityError("the hub is closing")

    async def _part(self) -> None:
        """Part with a worker that has ended, or is wedged."""
        if self.current is None:
            return
        if self.current.alive:
            self._note_wedged(self.current)
        else:
            self._on_gone()
            await self.current.aclose()
            self.current = None

    async def _wait_for_turn(self) -> None:
        if self._back_off.left_s and self._has_changed and await self._has_changed():
            self._back_off.forget()
        left_s = self._back_off.left_s
        if left_s > self._wait_s:
            raise CapacityError(
                f"the worker of `{self._name}` has ended {self._back_off.failures} times in a"
                f" row, and the next is started in {left_s:.1f} s"
            )
        with anyio.move_on_after(left_s):
            await self._closed.wait()
        self._check_open()

    def _note_end(self, number: int) -> None:
        """Hear of a worker that has ended by itself, perhaps before it had started."""
        if self.current is not None and number == self._number:
            self._back_off.failed()
            self._on_gone()

    def _note_wedged(self, worker: Worker) -> None:
        """Leave a wedged worker to the sessions that it holds."""
        self.current = None
        self.wedged.append(worker)
        tell(WARNING, "worker wedged", environment=self._name)
        self._back_off.failed()
        self._on_gone()
        self.tidy()

    async def _close_wedged(self) -> None:
        with anyio.CancelScope(shield=True):
            for worker in [worker for worker in self.wedged if worker.is_idle]:
                await worker.aclose()
                if worker in self.wedged:
                    self.wedged.remove(worker)
