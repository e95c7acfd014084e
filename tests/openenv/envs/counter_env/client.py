from openenv.core import EnvClient
from openenv.core.client_types import StepResult

from .models import CounterAction, CounterObservation, CounterState


class CounterEnv(EnvClient[CounterAction, CounterObservation, CounterState]):
    def _step_payload(self, action):
        return action.model_dump(exclude={"metadata"})

    def _parse_result(self, payload):
        observation = CounterObservation(**payload["observation"])
        return StepResult(observation, payload["reward"], payload["done"])

    def _parse_state(self, payload):
        return CounterState(**payload)
