"""What envs/echo does, for OpenEnv's server."""

from openenv.core.env_server.interfaces import Environment

from ..models import EchoAction, EchoObservation, EchoState


class EchoEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = EchoState()

    def reset(self, seed=None, episode_id=None):
        self._state = EchoState(episode_id=episode_id)
        return EchoObservation(message=f"seed {seed}")

    def step(self, action: EchoAction):
        self._state.step_count += 1
        self._state.last = action.message
        return EchoObservation(
            message=action.message,
            reward=float(len(action.message)),
            done=action.message == "bye",
        )

    @property
    def state(self):
        return self._state
