from openenv.core import EnvClient
from openenv.core.client_types import StepResult

from .models import GuessAction, GuessObservation, GuessState


class GuessEnv(EnvClient[GuessAction, GuessObservation, GuessState]):
    def _step_payload(self, action):
        return action.model_dump(exclude={"metadata"})

    def _parse_result(self, payload):
        observation = GuessObservation(**payload["observation"])
        return StepResult(observation, payload["reward"], payload["done"])

    def _parse_state(self, payload):
        return GuessState(**payload)
