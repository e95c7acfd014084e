"""Needs what only the whole of OpenEnv has, and has asynchronous methods from a function."""

import asyncio

from openenv.core.env_server.http_server import _MISSING, HTTPEnvServer, create_fastapi_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class AsynchronousEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, start):
        super().__init__()
        self.ticks = start
        self._task = None

    async def _tick(self):
        while True:
            self.ticks += 1
            await asyncio.sleep(0.001)

    async def reset_async(self, seed=None, episode_id=None, **options):
        if self._task is None:
            self._task = asyncio.ensure_future(self._tick())
        return Observation(metadata={"options": options, "seed": seed})

    def reset(self):
        raise AssertionError("the other one")

    def step(self, action, timeout_s=None):
        return Observation(reward=1, done=True, metadata={"ticks": self.ticks})

    @property
    def state(self):
        return State(step_count=self.ticks)


def factory():
    assert HTTPEnvServer is not _MISSING
    return AsynchronousEnvironment(start=100)


app = create_fastapi_app(factory, Action, Observation, 4, None, "Whole", mode="production")
