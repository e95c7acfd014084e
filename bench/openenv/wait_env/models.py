"""What is told, and what comes back, in OpenEnv's types."""

from openenv.core.env_server.types import Action, Observation


class WaitAction(Action):
    wait_s: float


class WaitObservation(Observation):
    waited_s: float = 0.0
