from openenv.core.env_server.types import Action, Observation, State


class GuessAction(Action):
    number: int


class GuessObservation(Observation):
    hint: str


class GuessState(State):
    guessed: int = 0
