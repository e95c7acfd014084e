"""Does in a step what no author means to do, and sooner or later some author does."""

import os
import time

from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State

steps = 0  # of whom? of everybody in this process


class AccidentAction(Action):
    do: str = "count"


class AccidentObservation(Observation):
    steps: int = 0


class AccidentEnvironment(Environment):
    """Says nothing of several sessions at once, as 19 of OpenEnv's 34 do not."""

    def reset(self, seed=None, episode_id=None):
        return AccidentObservation()

    def step(self, action: AccidentAction):
        global steps
        steps += 1
        if action.do == "exit":
            os._exit(3)
        if action.do == "sleep":
            time.sleep(15)
        return AccidentObservation(steps=steps)

    @property
    def state(self):
        return State()


app = create_app(
    AccidentEnvironment, AccidentAction, AccidentObservation, env_name="accident_env"
)
