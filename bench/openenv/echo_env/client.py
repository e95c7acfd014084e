"""A client as OpenEnv's packages have it: typed both ways."""

from openenv.core import EnvClient
from openenv.core.client_types import StepResult

from .models import EchoAction, EchoObservation, EchoState


class EchoEnv(EnvClient[EchoAction, EchoObservation, EchoState]):
    def _step_payload(self, action):
        return {"message": action.message}

    def _parse_result(self, payload):
        observation = EchoObservation(**payload["observation"])
        return StepResult(observation, payload["reward"], payload["done"])

    def _parse_state(self, payload):
        return EchoState(**payload)
