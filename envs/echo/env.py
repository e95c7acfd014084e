"""Echo: the observation is the last message. The smallest environment that works."""

from envhub import Action, Environment, Observation, State


class EchoAction(Action):
    message: str


class EchoObservation(Observation):
    message: str


class EchoState(State):
    last: str = ""


class Echo(Environment[EchoAction, EchoObservation, EchoState]):
    """Says back what it is told; the reward is the message's length."""

    def __init__(self) -> None:
        self._state = EchoState()

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> EchoObservation:
        self._state = EchoState(episode_id=episode_id)
        return EchoObservation(message=f"seed {seed}")

    def step(self, action: EchoAction) -> EchoObservation:
        self._state.step_count += 1
        self._state.last = action.message
        return EchoObservation(
            message=action.message,
            reward=float(len(action.message)),
            done=action.message == "bye",
        )

    @property
    def state(self) -> EchoState:
        return self._state
