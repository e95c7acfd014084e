from openenv.core.env_server.types import Action, Observation, State


class CounterAction(Action):
    by: int = 1
    do: str = ""


class CounterObservation(Observation):
    count: int
    truncated: bool = False
    seen: str = ""


class CounterState(State):
    count: int = 0
