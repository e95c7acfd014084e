"""Chain: an observation is a digest of the whole episode. Nothing lost or doubled hides."""

import hashlib
import time

from envhub import Action, Environment, Observation, State


class Link(Action):
    text: str = ""
    takes_s: float = 0.0


class Seen(Observation):
    digest: str
    steps: int


class Length(State):
    digest: str = ""


def linked(digest: str, text: str) -> str:
    return hashlib.sha256(f"{digest}/{text}".encode()).hexdigest()[:16]


class Chain(Environment[Link, Seen, Length]):
    def __init__(self) -> None:
        self._state = Length()

    def reset(self, seed: int | None = None) -> Seen:
        self._state = Length(digest=linked("", str(seed)))
        return self._seen()

    def step(self, action: Link) -> Seen:
        time.sleep(action.takes_s)
        self._state.digest = linked(self._state.digest, action.text)
        self._state.step_count += 1
        return self._seen()

    def _seen(self) -> Seen:
        steps = self._state.step_count
        return Seen(digest=self._state.digest, steps=steps, reward=float(steps))

    @property
    def state(self) -> Length:
        return self._state
