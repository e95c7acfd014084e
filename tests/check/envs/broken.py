"""Environments with one thing wrong with each, and one with nothing wrong."""

from __future__ import annotations

import mmap
import os
import random
import threading
import time

from pydantic import Field, computed_field, field_validator

from envhub import Action, Environment, Observation, State

AT_IMPORT = os.urandom(8).hex()
OPEN = mmap.mmap(-1, 4096)  # shared with every fork of the zygote
KEPT = []


class Move(Action):
    by: int = Field(ge=1, le=5)


class Seen(Observation):
    at: int
    goal: int
    text: str = ""
    data: bytes = b""


class Where(State):
    at: int = 0


class Right(Environment[Move, Seen, Where]):
    """Walk to a goal."""

    def __init__(self) -> None:
        self.at = self.goal = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        self.at, self.goal = 0, random.Random(seed).randint(10, 10**6)
        return self.seen()

    def step(self, action: Move) -> Seen:
        self.at += action.by
        return self.seen()

    def seen(self, **other: object) -> Seen:
        return Seen(at=self.at, goal=self.goal, done=self.at >= self.goal, **other)

    @property
    def state(self) -> Where:
        return Where(at=self.at)


class Wrong(Where):
    @classmethod
    def model_json_schema(cls, *_: object, **__: object) -> dict[str, object]:
        return {"type": "object", "properties": {"at": {"$ref": "#/$defs/Nowhere"}}}


class WrongSchema(Right):
    @property
    def state(self) -> Wrong:
        return Wrong(at=self.at)


class Ends(Right):
    def step(self, action: Move) -> Seen:
        if self.at:
            os._exit(3)
        return super().step(action)


class Raises(Right):
    def step(self, action: Move) -> Seen:
        raise KeyError("boom")


class Odd(Action):
    by: int = Field(ge=1, le=5)

    @field_validator("by")
    @classmethod
    def odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("only odd numbers")
        return value


class Refuses(Right):
    def step(self, action: Odd) -> Seen:
        return super().step(action)


class More(Seen):
    @computed_field
    @property
    def left(self) -> int:
        return self.goal - self.at


class SendsMore(Right):
    def step(self, action: Move) -> More:
        return More(**super().step(action).model_dump())


class NoText(Right):
    def step(self, action: Move) -> Seen:
        self.at += action.by
        return self.seen(data=b"\xff\xfe")


class Varies(Right):
    def step(self, action: Move) -> Seen:
        self.at += action.by
        return self.seen(text=os.urandom(4).hex())


class VariesByStart(Right):
    def step(self, action: Move) -> Seen:
        self.at += action.by
        return self.seen(text=AT_IMPORT)


class Ignores(Right):
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        return super().reset(7)


class Keeps(Right):
    steps = 0

    def step(self, action: Move) -> Seen:
        Keeps.steps += 1
        self.at += action.by
        return self.seen(text=f"{Keeps.steps} steps")


class NeedsReset(Right):
    def step(self, action: Move) -> Seen:
        if not self.goal:
            os._exit(4)
        return super().step(action)


class NeedsOptions(Right):
    def reset(self, seed: int | None = None, **options: object) -> Seen:
        if options.keys() - {"episode_id"}:
            os._exit(5)
        return super().reset(seed)


class Shares(Right):
    """Counts the sessions that are open, in memory that all of them see."""

    def __init__(self) -> None:
        super().__init__()
        OPEN[0] += 1

    def step(self, action: Move) -> Seen:
        self.at += action.by
        return self.seen(text=f"{OPEN[0]} open")

    def close(self) -> None:
        OPEN[0] -= 1


class LeaksDescriptors(Right):
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        KEPT.append(os.open("/dev/null", os.O_RDONLY))
        return super().reset(seed)


class LeaksThreads(Right):
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().reset(seed)


class LeaksMemory(Right):
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        KEPT.append(os.urandom(256 * 1024))
        return super().reset(seed)


class LeaksProcesses(Right):
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Seen:
        if not os.fork():
            os.execv("/bin/sleep", ["sleep", "60"])
        return super().reset(seed)


class TooLarge(Right):
    """`memory_bytes` in its manifest is 256 MiB."""

    def __init__(self) -> None:
        super().__init__()
        self.block = mmap.mmap(-1, 220 * 2**20, mmap.MAP_PRIVATE)


class ClosesLate(Right):
    """`close_s` in its manifest is 0.2."""

    def close(self) -> None:
        time.sleep(60)


class CloseRaises(Right):
    def close(self) -> None:
        raise RuntimeError("cannot close")


class NoSeed(Right):
    """Nothing wrong: it takes no seed, and needs none."""

    def reset(self) -> Seen:
        return super().reset(7)
