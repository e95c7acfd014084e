"""What a hub knows of itself, its environments and its sessions, as data for operators."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

import msgspec

import envhub
from envhub.errors import EnvhubError
from envhub.hub.accounts.tally import State, Totals
from envhub.hub.environments import caps, schemas
from envhub.results import Bill

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envhub.hub.hub import Hub
    from envhub.hub.places.place import Place
    from envhub.hub.places.watchdog import Watchdog
    from envhub.hub.workers.pool import Pool

TAIL_CHARS = 1000  # of what a broken environment has printed
Why = Literal["draining", "memory", "full", "broken"]


class SessionFacts(msgspec.Struct, frozen=True):
    """One session as it was when it was asked about. Times are in seconds.

    Args:
        id: short and random, for logs and for closing it; nobody can use the session by it.
        environment: its name.
        version: of the environment.
        client: whose it is; "" where clients are not told apart.
        state: "opening", "idle" between two calls, "calling" in one, or "lost": its process
            is gone, and only a reset goes on.
        tier: which isolation is live around its process; "" while it has none.
        pid: of that process on this machine; 0 while it has none.
        opened_at: seconds since 1970.
        age_s: since then.
        episode: number of resets that were answered.
        steps: answered, over all episodes.
        errors: calls that were not.
        stage: of the call under way, or of the last one.
        stage_s: since that began, or ended.
        sent_bytes: to its processes.
        received_bytes: from them.
        bill: what it has used, as `envhub.results.Bill` names it. The kernel has to be asked
            for that, so only who asks about one session is told; None for a list's.
    """

    id: str
    environment: str
    version: str
    client: str
    state: State
    tier: str
    pid: int
    opened_at: float
    age_s: float
    episode: int
    steps: int
    errors: int
    stage: str
    stage_s: float
    sent_bytes: int
    received_bytes: int
    bill: Bill | None = None


def of(place: Place, *, with_bill: bool = False) -> SessionFacts:
    """Return what is known of the session in a place."""
    tally, now, process = place.tally, time.monotonic(), place.process
    manifest = place.pool.manifest
    return SessionFacts(
        id=tally.id,
        environment=manifest.name,
        version=manifest.version,
        client=place.client,
        state=tally.state,
        tier=process.receipt.tier if process is not None else "",
        pid=process.pid if process is not None else 0,
        opened_at=round(tally.opened_at, 3),
        age_s=round(now - tally.began, 3),
        episode=tally.episodes,
        steps=tally.steps,
        errors=sum(dict(tally.errors).values()),
        stage=tally.stage,
        stage_s=round(max(0.0, now - tally.since), 3),
        sent_bytes=place.meter.sent_bytes,
        received_bytes=place.meter.received_bytes,
        bill=place.meter.bill() if with_bill else None,
    )


class HubFacts(msgspec.Struct, frozen=True):
    """One hub as it was when it was asked about.

    Args:
        version: of envhub.
        isolation: that was asked for.
        tier: that is live, or will be at best while nothing has been started.
        places: sessions that may be open at once.
        taken: places that are not free.
        waiting: requests for one.
        full: no place is free, and no more requests may wait for one.
        draining: no more sessions are opened; those that are open go on.
        memory_available_bytes: of the machine.
        memory_floor_bytes: of it, that is kept free.
        memory_control: what holds the memory of whole sessions.
        workers: that live, by environment.
        ready_processes: made ahead of demand, by environment.
        broken: environments that cannot be started, and why.
    """

    version: str
    isolation: str
    tier: str
    places: int
    taken: int
    waiting: int
    full: bool
    draining: bool
    memory_available_bytes: int
    memory_floor_bytes: int
    memory_control: str
    workers: dict[str, int]
    ready_processes: dict[str, int]
    broken: dict[str, str]

    def why_not(self, environment: str | None) -> dict[Why, str]:
        """Return why no session of an environment can be opened now; nothing if one can.

        Args:
            environment: its name; None for any.
        """
        found: dict[Why, str] = {}
        if self.draining:
            found["draining"] = f"no more are opened; {self.taken} go on"
        if self.memory_available_bytes < self.memory_floor_bytes:
            left, kept = self.memory_available_bytes >> 20, self.memory_floor_bytes >> 20
            found["memory"] = f"{left} MiB are left, {kept} are kept free"
        if self.full:
            found["full"] = (
                f"{self.taken} of {self.places} places are taken, {self.waiting} wait for one"
            )
        if environment in self.broken:
            found["broken"] = f"{environment}: {self.broken[environment]}"
        return found


class EnvironmentFacts(msgspec.Struct, frozen=True):
    """One environment of a catalog.

    Args:
        name: by which clients ask for it.
        version: of it.
        description: one sentence.
        isolation: that was asked for, for every environment of this hub.
        agent_code: it may open sandboxes for agent code.
        network: it has the machine's, "public", or none.
        limits: in force for each session, by name; 0 is no limit.
        schema: digest of its types; "" while nobody has asked for them.
        broken: why it cannot be started; "" if nothing is known against it.
    """

    name: str
    version: str = ""
    description: str = ""
    isolation: str = ""
    agent_code: bool = False
    network: str = "none"
    limits: dict[str, float] = {}
    schema: str = ""
    broken: str = ""


class Usage(msgspec.Struct, frozen=True):
    """What is done with one environment, and has been since the hub was made.

    Args:
        name: of it.
        sessions: that are open or opening.
        calling: of these, in a call.
        opened: sessions so far.
        episodes: so far.
        steps: so far.
        step_s: that these took together.
        errors: calls without a reply so far.
        workers: that live.
        ready_processes: made ahead of demand.
        broken: why it cannot be started; "" if nothing is known against it.
    """

    name: str
    sessions: int
    calling: int
    opened: int
    episodes: int
    steps: int
    step_s: float
    errors: int
    workers: int
    ready_processes: int
    broken: str


class Summary(msgspec.Struct, frozen=True):
    """A hub, its process and its environments, for whoever looks again and again.

    Args:
        hub: itself.
        not_ready: why no session of the default environment could be opened now.
        refused: clients that were not served, by why.
        process: what the machine says of the hub's, by the name of the metric.
        environments: by name.
    """

    hub: HubFacts
    not_ready: dict[str, str]
    refused: dict[str, int]
    process: dict[str, float]
    environments: list[Usage]


def usage(hub: Hub) -> list[Usage]:
    """Return what is done with each environment."""
    known, totals, live = hub.facts(), hub.counters.totals(), hub.sessions()
    found = []
    for name in sorted({*hub.catalog.names(), *totals, *known.broken}):
        sums = totals.get(name, Totals())
        states = [session.state for session in live if session.environment == name]
        found.append(
            Usage(
                name=name,
                sessions=len(states),
                calling=states.count("calling"),
                opened=sums.opened,
                episodes=sums.episodes,
                steps=sums.steps,
                step_s=round(sums.step_s, 6),
                errors=sum(sums.errors.values()),
                workers=known.workers.get(name, 0),
                ready_processes=known.ready_processes.get(name, 0),
                broken=known.broken.get(name, ""),
            )
        )
    return found


def of_hub(
    hub: Hub, watchdog: Watchdog, pools: Mapping[str, Pool], *, is_full: bool
) -> HubFacts:
    """Return what is known of a hub, given what only it has."""
    stock = {name: pool.stock for name, pool in pools.items()}
    return HubFacts(
        version=envhub.__version__,
        isolation=hub.starter.isolation,
        tier=hub.starter.grade.tier,
        places=hub.max_sessions,
        taken=hub.active_sessions,
        waiting=hub.waiting_sessions,
        full=is_full,
        draining=hub.draining or hub.counters.closing,
        memory_available_bytes=watchdog.available_bytes,
        memory_floor_bytes=watchdog.floor_bytes,
        memory_control=watchdog.memory_control,
        workers={name: workers for name, (workers, _) in stock.items()},
        ready_processes={name: ready for name, (_, ready) in stock.items()},
        broken=_broken(hub),
    )


def environments(hub: Hub) -> list[EnvironmentFacts]:
    """Return what is known of each environment of a hub's catalog."""
    broken = hub.facts().broken
    found = [_of_environment(hub, name, broken.get(name, "")) for name in hub.catalog.names()]
    known = {environment.name for environment in found}
    return found + [
        EnvironmentFacts(n, broken=why) for n, why in broken.items() if n not in known
    ]


def _of_environment(hub: Hub, name: str, broken: str) -> EnvironmentFacts:
    manifest, described, digest = hub.catalog[name], hub.described.get(name), ""
    try:
        manifest = hub.manifest(name)
        digest = schemas.digest(schemas.document(described)) if described is not None else ""
    except EnvhubError as error:  # it cannot have what it is granted, or has no valid schema
        broken = broken or str(error)
    return EnvironmentFacts(
        name=name,
        version=manifest.version,
        description=manifest.description,
        isolation=hub.starter.isolation,
        agent_code=manifest.agent_code,
        network=manifest.network,
        limits=caps.in_force(manifest),
        schema=digest,
        broken=broken,
    )


def _broken(hub: Hub) -> dict[str, str]:
    found = {}
    for name, error in hub.broken().items():
        output = str(getattr(error, "output", ""))[-TAIL_CHARS:].strip()
        found[name] = f"{error}\n{output}" if output else str(error)
    return found
