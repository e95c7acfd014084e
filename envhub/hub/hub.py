"""The hub: pools by name, admission, and the one place that everything is closed from."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType

import anyio

from envhub.batch import Batch
from envhub.errors import CapacityError, EnvhubError, HubForked, UsageError
from envhub.hub.accounts import facts
from envhub.hub.accounts.counters import Counters
from envhub.hub.accounts.facts import HubFacts, SessionFacts
from envhub.hub.environments import schemas
from envhub.hub.environments.catalog import Catalog, search_path
from envhub.hub.environments.grants import Grant
from envhub.hub.environments.manifest import Manifest
from envhub.hub.environments.schemas import Pinned
from envhub.hub.environments.terms import Terms
from envhub.hub.places import budgets
from envhub.hub.places.admission import QUEUE_MAX, QUEUE_S, Admission
from envhub.hub.places.budgets import Bound
from envhub.hub.places.place import Place
from envhub.hub.places.watchdog import LOOK_S, Watchdog
from envhub.hub.session import Session
from envhub.hub.workers.pool import Pool
from envhub.hub.workers.pulse import PATIENCE_S
from envhub.hub.workers.starter import Starter
from envhub.wire.messages import Described
from envhub_sandbox import SandboxError

_log = logging.getLogger(__name__)


class Hub:
    """One trusted process that owns workers and gives out sessions.

    An asynchronous context manager, used from one asyncio event loop:

        async with envhub.Hub() as hub, hub.session("echo") as env:
            await env.reset(seed=7)
            result = await env.step({"message": "hello"})

    Args:
        envs: folders with environments, searched before $ENVHUB_PATH, ./envs and share/.
        isolation: the lowest tier that will do: "strict", "standard", "uid", "landlock", or
            "best" for what there is; the highest that works is taken. Below it the first
            session fails with the missing layer and its fix. "none" protects nothing.
        exactly: take the tier of `isolation`, and no higher one.
        allow_unprotected_agent_code: with isolation "none", let environments run agent code
            that may then do on this machine all that this user may.
        launcher: "auto", "bubblewrap" or "built-in".
        max_sessions: at once; None counts what memory, descriptors and processes allow.
        queue_s: how long `open` waits for a place, or for memory.
        queue_max: how many may wait for one, of all clients.
        caps: the most that a manifest may ask for, by the name of the limit: any key of
            `[limits]` (but `niceness`) and `[deadlines]`. What asks for more gets the cap;
            `Session.limits` says what is in force.
        memory_floor_bytes: memory of the machine that is kept free: below it no session is
            opened, below half of it the largest is killed. None takes 512 MiB, or a
            twentieth of the machine's if that is less.
        variables: names of environment variables of this process that environments get whose
            manifests name them, too. They get no others.
        cgroup: below which sessions get control groups: "auto" for our own group of cgroup
            v2, if it was delegated to us and we are alone in it; "off"; or the path of a group
            in the hierarchy, such as "/envhub".
        grants: what single environments get beyond that, by name; see `Grant`.
        heartbeat_s: within which the zygote of a worker must answer. One that does not is
            given no new sessions; those that it has go on.

    Raises:
        UsageError: an argument is not one of these.
        UnknownEnvironment: a folder of `envs` does not exist, or a grant's environment.
    """

    def __init__(
        self,
        envs: str | Path | Iterable[str | Path] = (),
        *,
        isolation: str = "strict",
        exactly: bool = False,
        allow_unprotected_agent_code: bool = False,
        launcher: str = "auto",
        max_sessions: int | None = None,
        queue_s: float = QUEUE_S,
        queue_max: int = QUEUE_MAX,
        caps: Mapping[str, float] | None = None,
        memory_floor_bytes: int | None = None,
        variables: Iterable[str] = (),
        cgroup: str = "auto",
        grants: Mapping[str, Grant] | None = None,
        heartbeat_s: float = PATIENCE_S,
    ) -> None:
        given = [envs] if isinstance(envs, str | Path) else envs
        self.catalog = Catalog(search_path(given))
        self.counters = Counters()
        self.starter = Starter(isolation, launcher, exactly=exactly, counters=self.counters)
        if max_sessions is not None and max_sessions < 1:
            raise UsageError(f"`max_sessions` must be 1 or more, and is {max_sessions}")
        self._max_sessions = max_sessions
        self.terms = Terms(
            self.catalog,
            caps=caps or {},
            variables=variables,
            grants=grants or {},
            allow_unprotected_agent_code=allow_unprotected_agent_code,
        )
        self._watchdog = Watchdog(budgets.memory_floor(memory_floor_bytes))
        self._admission = Admission(
            self._watchdog, queue_s=queue_s, queue_max=queue_max, counters=self.counters
        )
        self._bound_by: Bound = "max_sessions"
        self._cgroup = cgroup
        self._heartbeat_s = heartbeat_s
        self._pools: dict[str, Pool] = {}
        self.described: dict[str, Described] = {}  # those that were asked for once
        self._taken: set[Place] = set()
        self._looking: list[Callable[[], Awaitable[None]]] = []
        self._stack = AsyncExitStack()
        self._open = self._draining = False
        self._owner = os.getpid()

    @property
    def active_sessions(self) -> int:
        """How many places are taken."""
        return self._admission.taken

    @property
    def waiting_sessions(self) -> int:
        """How many wait for one."""
        return self._admission.waiting

    @property
    def max_sessions(self) -> int:
        """How many there are."""
        return self._admission.places

    @property
    def places_bound_by(self) -> Bound:
        """What they are bound by: "memory", "descriptors", "processes" or "max_sessions".

        Known once the hub is open.
        """
        return self._bound_by

    @property
    def draining(self) -> bool:
        """Whether no new sessions are opened, for those that run are the last."""
        return self._draining

    @property
    def memory_control(self) -> str:
        """What holds the memory of whole sessions: "cgroup v2", "cgroup v1" or "watchdog".

        Known once the hub is open.
        """
        return self._watchdog.memory_control

    async def __aenter__(self) -> Hub:
        """Take what the process may have of descriptors, and be ready to open sessions.

        Raises:
            UsageError: the control group that was named cannot be used.
        """
        budgets.raise_descriptor_limit()
        self._watchdog.use_cgroup(self._cgroup)
        places, self._bound_by = budgets.places(self._max_sessions)
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._open = True
        self._admission.open(places)
        self._tasks.start_soon(self._look_after)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every session and end every worker, also when cancelled.

        Each is closed whatever becomes of the others; what failed is raised at the end.
        """
        self._open, self.counters.closing = False, True
        if os.getpid() != self._owner:
            return  # a fork of the hub's process owns nothing of it
        self._admission.refuse()
        failed: list[Exception] = []

        async def close(what: Place | Pool | AsyncExitStack | Watchdog) -> None:
            try:
                await what.aclose()
            except Exception as failure:
                failed.append(failure)

        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as closing:
                for place in list(self._taken):
                    closing.start_soon(close, place)
            for pool in self._pools.values():
                await close(pool)
        self._tasks.cancel_scope.cancel()
        # not with the body's error: a task group would wrap it, and it is none of the tasks'
        await close(self._stack)
        with anyio.CancelScope(shield=True):
            await close(self._watchdog)
        if failed:
            raise ExceptionGroup("the hub closed, and not all of it as it should", failed)

    @asynccontextmanager
    async def session(
        self, name: str, *, schema: Pinned | None = None, client: str = ""
    ) -> AsyncIterator[Session]:
        """Hold a session of environment `name` for the length of the block.

        Args, Raises: as `open`.
        """
        session = await self.open(name, schema=schema, client=client)
        try:
            yield session
        finally:
            await session.aclose()

    async def open(
        self, name: str, *, schema: Pinned | None = None, client: str = ""
    ) -> Session:
        """Return a session of environment `name`; its owner closes it.

        Args:
            name: of the environment.
            schema: what its types must look like: a digest, or a document as `envhub schema`
                prints it.
            client: who asks, by any name. While places are short clients are served in turn,
                however many each of them asks for.

        Raises:
            SchemaMismatch: they look otherwise.
            UnknownEnvironment: there is none of that name; the hint has the nearest.
            ManifestError: its manifest is not valid.
            CapacityError: no place became free in time, too many wait for one, memory is
                short, or the hub is draining or closing.
            SandboxError: a layer of isolation is missing; the hint says what to do.
            WorkerStartFailed: the environment cannot be imported.
        """
        place = await self.reserve(name, client)
        try:
            lease = await place.lease()
            session = Session(place, lease)
            if schema is not None:
                found = schemas.document(await session.describe())
                schemas.check(session.manifest.title, found, schema)
        except BaseException:
            await place.aclose()
            raise
        return session

    async def reserve(self, name: str, client: str = "") -> Place:
        """Return a place for a session of environment `name`, without a process yet.

        Args, Raises: as `open`.
        """
        self.check_owner()
        pool = self._pool(name)
        began = time.monotonic()
        turn = await self._admission.take(client)

        def release() -> None:
            self._taken.discard(place)
            self._admission.give_back(turn)

        place = Place(pool, release, client)
        place.meter.waited_s = time.monotonic() - began
        self._taken.add(place)
        return place

    def every_look(self, call: Callable[[], Awaitable[None]]) -> None:
        """Have `call` awaited about twice a second while the hub is open.

        Args:
            call: closes sessions, say; an EnvhubError in it is nobody's concern.
        """
        self._looking.append(call)

    def drain(self) -> None:
        """Open no new sessions; refuse those that wait for a place. The others go on."""
        self._draining = True
        self._admission.refuse("the server is draining")

    async def describe(self, name: str) -> Described:
        """Return the schemas and options of environment `name`.

        Raises: as `open`.
        """
        if name not in self.described:
            async with self.session(name) as session:
                self.described[name] = await session.describe()
        return self.described[name]

    def batch(self, sessions: Iterable[Session], first: int | None = None) -> Batch[Session]:
        """Return a batch of sessions, to be stepped together.

        Args:
            sessions: of this hub.
            first: how many outcomes are received at once; see `Batch`.
        """
        return Batch(sessions, first)

    def manifest(self, name: str) -> Manifest:
        """Return what is in force for environment `name`, caps and grants applied.

        Raises:
            UnknownEnvironment: there is none of that name.
            ManifestError: its manifest is not valid.
            UsageError: it cannot be given what it is granted.
        """
        return self.terms.manifest(name)

    def broken(self) -> dict[str, EnvhubError | SandboxError]:
        """Return by name why environments cannot be used, as far as anybody has tried.

        Their manifest is not valid, or they do not start. `output` of a WorkerStartFailed has
        the end of what they printed. They are tried again when their files change.
        """
        found: dict[str, EnvhubError | SandboxError] = {**self.catalog.broken}
        for name, pool in self._pools.items():
            if (error := pool.broken) is not None:
                found[name] = error
        return found

    def sessions(self) -> list[SessionFacts]:
        """Return what is known of each session that is open or opening, the oldest first."""
        return self.counters.sessions()

    def facts(self) -> HubFacts:
        """Return what is known of the hub itself, now that it is open."""
        return facts.of_hub(self, self._watchdog, self._pools, is_full=self._admission.is_full)

    def check_owner(self) -> None:
        """Refuse a use after the end, or in a fork of the hub's process.

        Raises:
            HubForked: the program forked since the hub was made.
            CapacityError: the hub is closed, or was never entered.
        """
        if os.getpid() != self._owner:
            raise HubForked(
                "this process was forked after the hub had started",
                hint="make a hub of its own in each process",
            )
        if not self._open:
            raise CapacityError("the hub is not open", hint="use it as `async with Hub()`")

    def _pool(self, name: str) -> Pool:
        if name not in self._pools:
            self._pools[name] = self._made_pool(name)
        return self._pools[name]

    def _made_pool(self, name: str) -> Pool:
        manifest = self.manifest(name)
        self.terms.check_protection(manifest, self.starter.isolation)
        variables = self.terms.variables(manifest)
        return Pool(
            manifest, self.starter, self._tasks, self._watchdog, variables, self._heartbeat_s
        )

    async def _look_after(self) -> None:
        """Hold, again and again, what the kernel does not: clocks, and memory of sessions."""
        slept = False
        while True:
            began = time.monotonic()
            await anyio.sleep(LOOK_S)
            # it is we who slept, with the machine perhaps: first let everybody say something
            slept = not slept and time.monotonic() - began > 2 * LOOK_S
            if slept:
                continue
            for place in [place for place in self._taken if place.look()]:
                self._tasks.start_soon(_quietly, place.aclose)
            for pool in self._pools.values():
                pool.look()
            for call in self._looking:
                self._tasks.start_soon(_quietly, call)
            with suppress(OSError):  # no descriptor is free to look with; at the next, perhaps
                await self._watchdog.look()
            self._admission.look()


async def _quietly(call: Callable[[], Awaitable[None]]) -> None:
    try:
        await call()
    except EnvhubError:
        pass  # an environment could not close, say, and nobody is here to be told
    except Exception:  # a bug of ours must not end the hub
        _log.exception("in the background")
