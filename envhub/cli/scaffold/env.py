"""Guess: find a hidden number in a few tries."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import Field

from envhub import Action, Environment, Observation, State


class GuessAction(Action):
    """What a client sends. What the type says, nobody needs to check again."""

    number: int = Field(ge=1, le=100, description="Your guess")


class GuessObservation(Observation):
    """What a client sees. `reward`, `done` and `truncated` come with `Observation`."""

    hint: Literal["begin", "higher", "lower", "found"]
    tries_left: int


class GuessState(State):
    """What may be asked for at any time. Not for secrets: a client can read it."""

    highest: int = 0


class Guess(Environment[GuessAction, GuessObservation, GuessState]):
    """Find the number that the seed has chosen."""

    # One object serves one session, in a process of its own: plain attributes are enough.

    def reset(
        self,
        seed: int | None = None,
        episode_id: str | None = None,
        highest: int = 100,  # an option of your own: a keyword with a default
        tries: int = 7,
    ) -> GuessObservation:
        """Choose a number from 1 to `highest`. Everything of the last episode ends here."""
        self._secret = random.Random(seed).randint(1, highest)  # the only source of chance
        self._left = tries
        self._state = GuessState(episode_id=episode_id, highest=highest)
        return GuessObservation(hint="begin", tries_left=tries)

    def step(self, action: GuessAction) -> GuessObservation:
        """Compare a guess with the number."""
        self._left -= 1
        self._state.step_count += 1
        if action.number == self._secret:
            return GuessObservation(hint="found", tries_left=self._left, reward=1.0, done=True)
        return GuessObservation(
            hint="higher" if action.number < self._secret else "lower",
            tries_left=self._left,
            reward=0.0,
            truncated=self._left == 0,  # not solved, and over all the same
        )

    @property
    def state(self) -> GuessState:
        """Return what there is to know, besides the observations."""
        return self._state
