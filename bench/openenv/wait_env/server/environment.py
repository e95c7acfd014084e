"""Sleeps, as OpenEnv's own scaling study has its environment do."""

import time

from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import State

from ..models import WaitAction, WaitObservation


class WaitEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()

    def reset(self, seed=None, episode_id=None):
        self._state = State(episode_id=episode_id)
        return WaitObservation()

    def step(self, action: WaitAction):
        self._state.step_count += 1
        time.sleep(action.wait_s)
        return WaitObservation(waited_s=action.wait_s, reward=0.0)

    @property
    def state(self):
        return self._state
