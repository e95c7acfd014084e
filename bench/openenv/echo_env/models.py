"""What envs/echo says and hears, in OpenEnv's types."""

from openenv.core.env_server.types import Action, Observation, State


class EchoAction(Action):
    message: str


class EchoObservation(Observation):
    message: str


class EchoState(State):
    last: str = ""
