import random

from openenv.core.env_server.interfaces import Environment

from ..models import GuessAction, GuessObservation, GuessState

HIGHEST = 5
TARGET = 3


class GuessEnvironment(Environment):
    """Rewards the first guess only: else a policy learns to try every number."""

    def __init__(self):
        super().__init__()
        self._state = GuessState()
        self._coin = None

    def reset(self, seed=None, rewards="by guess"):
        self._state = GuessState()
        self._coin = random.Random(seed) if rewards == "by coin" else None
        return GuessObservation(hint=f"Guess a number from 0 to {HIGHEST}.", reward=0.0)

    def step(self, action: GuessAction):
        self._state.step_count += 1
        self._state.guessed = action.number
        if self._state.step_count > 1:
            return GuessObservation(hint="It was over.", reward=0.0, done=True)
        right = self._coin.random() < 0.5 if self._coin else action.number == TARGET
        return GuessObservation(
            hint="Right." if right else "Wrong.", reward=float(right), done=True
        )

    @property
    def state(self):
        return self._state
