"""The environment that is checked, with what several checks want to know of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from envhub.check import schema as schemas
from envhub.check.actions import Actions
from envhub.check.play import Episode, Form, play
from envhub.errors import UsageError
from envhub.hub.environments import schemas as documents
from envhub.hub.environments.manifest import Manifest
from envhub.hub.hub import Hub
from envhub.hub.session import Session
from envhub.wire.messages import Described
from envhub_sandbox import Receipt

SEEDS = 3  # that are told apart


@dataclass(frozen=True, slots=True)
class Plan:
    """How an environment is played.

    Args:
        seed: the first of the seeds, and what the actions are made from.
        steps: of an episode, at most.
        episodes: of one session, for what grows.
        sessions: at once.
        given: actions to play, instead of made ones.
    """

    seed: int = 0
    steps: int = 10
    episodes: int = 20
    sessions: int = 16
    given: tuple[Any, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are told apart."""
        return tuple(range(self.seed, self.seed + SEEDS))


class Subject:
    """One environment, and the hub that it is played in.

    Args:
        hub: open.
        another: makes a hub like it; for a zygote of its own.
        name: of the environment.
        plan: how it is played.
    """

    def __init__(self, hub: Hub, another: Callable[[], Hub], name: str, plan: Plan) -> None:
        self.hub = hub
        self.another = another
        self.name = name
        self.plan = plan
        self.manifest: Manifest = hub.catalog[name]
        # each is played on the wire that it was written for
        self.form: Form = "json" if self.manifest.format == "openenv" else "msgpack"
        self.described: Described | None = None
        self.schemas: dict[str, Any] = {}
        self.receipt: Receipt | None = None
        self.limits: dict[str, float] = {}
        self.start_s = 0.0
        self.actions = Actions({}, plan.seed)
        self.why_no_actions = "it was not started"
        self.why_varies = ""  # why its episodes cannot be compared; "" when they can
        self._fresh: dict[int, Episode] = {}

    async def start(self) -> None:
        """Open a first session, and learn what the environment is.

        Raises: as `Hub.open`.
        """
        began = time.perf_counter()
        async with self.hub.session(self.name) as session:
            self.start_s = time.perf_counter() - began
            described = await session.describe()
            self.receipt, self.limits = session.receipt, session.limits
        self.schemas = documents.document(described)
        self.described = described
        action = self.schemas["action"]
        self.actions = Actions(action, self.plan.seed, self.plan.given)
        try:
            if not self.plan.given and (flaws := schemas.flaws(action)):
                raise UsageError(f"the schema of its actions is not valid: {flaws[0]}")
            self.actions.at(0)
        except UsageError as error:
            self.why_no_actions = str(error)
        else:
            self.why_no_actions = ""

    @property
    def seeded(self) -> bool:
        """Whether its reset takes a seed."""
        options = self.described.reset_options if self.described else ()
        return options is None or "seed" in options

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Hold a session of it."""
        async with self.hub.session(self.name) as session:
            yield session

    async def play(
        self,
        session: Session,
        seed: int,
        *,
        form: Form | None = None,
        steps: int | None = None,
        number: int = 0,
    ) -> Episode:
        """Play an episode on a session: the actions are the same for every seed."""
        return await play(
            session,
            self.actions,
            form=form or self.form,
            seed=self.seed(seed),
            steps=self.plan.steps if steps is None else steps,
            number=number,
        )

    def seed(self, seed: int) -> int | None:
        """Return what to send as a seed; None to an environment that takes none."""
        return seed if self.seeded else None

    async def fresh(self, seed: int) -> Episode:
        """Return the episode of a seed in a fresh process. Played once, and then known."""
        if seed not in self._fresh:
            async with self.session() as session:
                self._fresh[seed] = await self.play(session, seed)
        return self._fresh[seed]

    async def all_fresh(self) -> list[Episode]:
        """Return the fresh episodes of all seeds."""
        return [await self.fresh(seed) for seed in self.plan.seeds]
