"""Programs that play episodes and check every observation, over a session's own API."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import envhub
from envhub.errors import (
    AgentSandboxFailed,
    CapacityError,
    ConnectionLost,
    EnvhubError,
    EnvironmentFailed,
    ResetNeeded,
    SessionClosed,
    WorkerError,
)
from envhub.results import StepResult
from tests.chaos.models import MODELS, Act, Model
from tests.chaos.tally import Tally

T = TypeVar("T")
HANG_S = 200.0  # beyond every deadline that a call can have
QUIET_S = 150.0  # for a whole episode, once nothing is disturbed any more; a worker that
# has been killed again and again is followed by another after half a minute
_PAUSE_S = 0.2
# what a disturbance may come to; anything else, a client's own mistake above all, or that a
# session was closed, which its program has not done, may not be
TYPED = (
    AgentSandboxFailed, CapacityError, ConnectionLost, EnvironmentFailed, ResetNeeded,
    WorkerError,
)  # fmt: skip


class Seat:
    """One session, or one after another, of one environment.

    Args:
        opening: opens a session with `reset`, `step` and `aclose` or `close`.
        model: of its episodes.
        tally: of the program.
        random_: the program's choices.
        resumes: calls are carried out once, also across connections.
        think_s: between two calls, on average.
    """

    def __init__(
        self,
        opening: Callable[[], Awaitable[Any]],
        model: Model,
        tally: Tally,
        random_: random.Random,
        *,
        resumes: bool,
        think_s: float,
    ) -> None:
        self._opening = opening
        self.model = model
        self._tally = tally
        self._random = random_
        self._resumes = resumes
        self._think_s = think_s
        self._unheard = False  # an answer was not heard: the episode may be lost
        self.session: Any = None

    async def play(self, ending: asyncio.Event) -> None:
        """Play episodes; after `ending` one more, undisturbed, and close."""
        until = 0.0
        try:
            while True:
                is_last = ending.is_set()
                until = until or (time.monotonic() + QUIET_S if is_last else 0.0)
                is_whole = await self.episode()
                if is_last and is_whole:
                    break
                if is_last and time.monotonic() > until:
                    self._tally.complain(f"no whole episode of {self.model.environment}")
                    break
                if not is_whole:
                    await asyncio.sleep(_PAUSE_S * self._random.uniform(0.5, 2))
                elif self._random.random() < 0.15:
                    await self.leave()
        except Exception as error:
            self._tally.escaped(error)
        await self.leave()

    async def episode(self) -> bool:
        """Play one; return whether it was whole."""
        if not await self.begin():
            return False
        for _ in range(self._random.randint(1, 12)):
            await asyncio.sleep(self._random.expovariate(1 / self._think_s))
            act = self.model.act(self._random)
            try:
                outcome = await within(self.session.step(act.action))
            except EnvhubError as error:
                if not await self.take_error(error, act):
                    return False
                continue
            if not self.take(outcome, act, getattr(self.session, "output", None)):
                return False
        return not self._unheard and await self._state_is_right()

    async def begin(self) -> bool:
        """Open a session if there is none, and begin an episode."""
        self._unheard = False
        seed = self._random.getrandbits(31)
        try:
            if self.session is None:
                self.session = await within(self._opening())
                self._tally.counts["sessions opened"] += 1
                self.model.lost()  # its process is a new one
            self.model.begin(seed)
            result = await within(self.session.reset(seed=seed))
        except EnvhubError as error:
            self.count(error)
            self.model.lost()
            if isinstance(error, SessionClosed):
                self.session = None
            return False
        if wrong := self.model.began(result):
            self._tally.complain(wrong)
            return False
        self._tally.right("reset")
        return True

    def take(self, outcome: StepResult, act: Act, output: str | None) -> bool:
        """Check an observation; return whether the episode goes on."""
        if wrong := self.model.stepped(act, outcome, output):
            self._tally.complain(wrong)
            return False
        if self.model.is_cut_short(outcome):
            self._tally.counts[f"cut short, and the observation says so: {act.what}"] += 1
            return False
        self._tally.right(act.what)
        if self._unheard:
            self._tally.counts["went on after an answer that was not heard"] += 1
            self._unheard = False
        return True

    async def take_error(self, error: EnvhubError, act: Act) -> bool:
        """Check an error; return whether the episode goes on."""
        self.count(error, act)
        if wrong := self.model.stepped(act, error, None):
            self._tally.complain(wrong)
        if type(error) is EnvironmentFailed and self.model.environment == "probe":
            return True
        # an unheard answer of coding may be that its sandbox failed, and its names with it
        is_told = self._resumes and self.model.environment != "coding"
        if isinstance(error, ConnectionLost) and is_told and self._random.random() < 0.7:
            self._unheard = True  # it was carried out, or will be: once
            return True
        self.model.lost()
        if isinstance(error, SessionClosed):
            self.session = None
        elif isinstance(error, WorkerError) and self._random.random() < 0.3:
            await self._step_without_episode()
        return False

    def count(self, error: EnvhubError, act: Act | None = None) -> None:
        """Count an error; complain of one that nothing of this may come to."""
        self._tally.error(error)
        meant = act.failures if act is not None else ()
        is_failure = type(error) is EnvironmentFailed and self.model.environment != "coding"
        if (
            not isinstance(error, TYPED)
            or (is_failure and "EnvironmentFailed" not in meant)
            or (isinstance(error, ResetNeeded) and not self._unheard)
        ):
            self._tally.complain(f"{self.model.environment}: {type(error).__name__}: {error}")

    async def leave(self) -> None:
        """Close the session."""
        session, self.session = self.session, None
        if session is not None:
            try:
                await within(getattr(session, "aclose", None) or session.close)
            except Exception as error:
                self._tally.escaped(error)

    async def _step_without_episode(self) -> None:
        """What was lost stays lost until a reset."""
        act = Act({"code": "pass"} if self.model.environment != "chain" else {}, "")
        try:
            result = await within(self.session.step(act.action))
        except EnvhubError as error:
            self._tally.error(error)
            self._tally.counts["refused a step without an episode"] += 1
        else:
            self._tally.complain(f"a step after the loss of its episode gave {result}")

    async def _state_is_right(self) -> bool:
        if self.model.environment != "chain" or self._random.random() < 0.7:
            return True
        try:
            state = await within(self.session.state())
        except EnvhubError as error:
            self.count(error)
            return False
        expected = (self.model.digest, self.model.steps)  # type: ignore[attr-defined]
        if (state["digest"], state["step_count"]) != expected:
            self._tally.complain(f"chain: expected {expected}, its state was {state}")
            return False
        self._tally.right("state")
        return True


async def within(work: Awaitable[T] | Callable[[], Awaitable[T]]) -> T:
    """Return what comes of a call, which is never waited for without an end."""
    async with asyncio.timeout(HANG_S):
        return await (work() if callable(work) else work)


async def over_native(
    url: str, names: list[str], tally: Tally, seed: int, think_s: float, ending: asyncio.Event
) -> None:
    """Play sessions of these environments beside each other, over one connection."""
    async with await connected(url, tally, seed) as hub:

        async def seat(at: int, name: str) -> None:
            chance = random.Random(f"{seed}/{at}")
            model = MODELS[name]()
            await Seat(
                lambda: hub.open(name), model, tally, chance, resumes=True, think_s=think_s
            ).play(ending)

        await asyncio.gather(*(seat(at, name) for at, name in enumerate(names)))


async def over_openenv(
    url: str, names: list[str], tally: Tally, seed: int, think_s: float, ending: asyncio.Event
) -> None:
    """Play sessions of these environments, a WebSocket of OpenEnv's protocol for each."""

    async def seat(at: int, name: str) -> None:
        chance = random.Random(f"{seed}/{at}")

        async def opening() -> Any:
            return await envhub.EnvClient(f"{url}/envs/{name}").connect()

        await Seat(opening, MODELS[name](), tally, chance, resumes=False, think_s=think_s).play(
            ending
        )

    await asyncio.gather(*(seat(at, name) for at, name in enumerate(names)))


async def over_batches(
    url: str, names: list[str], tally: Tally, seed: int, think_s: float, ending: asyncio.Event
) -> None:
    """Step sessions together, as many as are ready at a time."""
    chance = random.Random(seed)
    async with await connected(url, tally, seed) as hub:
        seats = [
            Seat(
                lambda name=name: hub.open(name),  # type: ignore[misc]
                MODELS[name](),
                tally,
                chance,
                resumes=True,
                think_s=think_s,
            )
            for name in names
        ]
        is_last = False
        while not is_last:
            is_last = ending.is_set()
            began = await asyncio.gather(*(seat.begin() for seat in seats))
            going = {seat.session: seat for seat, ok in zip(seats, began, strict=True) if ok}
            if not await _round(hub, going, chance, think_s):
                await asyncio.sleep(_PAUSE_S)
        await asyncio.gather(*(seat.play(ending) for seat in seats))


async def _round(
    hub: Any, going: dict[Any, Seat], chance: random.Random, think_s: float
) -> bool:
    """Play an episode with each session; return whether any was there to be played."""
    batch = hub.batch(going)
    acts: dict[Any, Act] = {}
    left = {session: chance.randint(1, 12) for session in going}
    idle = list(going)
    while going:
        for session in idle:
            acts[session] = going[session].model.act(chance)
        batch.send({session: acts[session].action for session in idle})
        ready = await within(batch.recv(first=chance.randint(1, len(going))))
        idle = []
        for session, outcome in ready.items():
            seat, act = going[session], acts[session]
            left[session] -= 1
            if isinstance(outcome, EnvhubError):
                goes_on = await seat.take_error(outcome, act)
            else:
                goes_on = seat.take(outcome, act, None)
            if goes_on and left[session]:
                idle.append(session)
            else:
                del going[session]
        await asyncio.sleep(chance.expovariate(1 / think_s))
    return bool(left)


async def connected(url: str, tally: Tally, seed: int) -> Any:
    """Return a hub elsewhere that is there; it may be on its way up."""
    reconnect_s = 1.0 if seed % 2 else 15.0  # the first gives up while a proxy refuses
    until = time.monotonic() + QUIET_S
    while True:
        hub = envhub.connect(url, reconnect_s=reconnect_s)
        try:
            await hub.start()
        except ConnectionLost as error:
            tally.error(error)
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_PAUSE_S)
        else:
            return _Started(hub)


class _Started:
    """A hub that is connected already, as a context manager."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub

    async def __aenter__(self) -> Any:
        return self._hub

    async def __aexit__(self, *_: object) -> None:
        await self._hub.aclose()
