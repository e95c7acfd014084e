"""An environment with tools of its own, which count with its steps, or end its process."""

import os
import time
from typing import Any

from envhub import Action, Environment, Observation, State


class Counted(Observation):
    count: int = 0


class Toolbox(Environment[Action, Counted, State]):
    """Counts what is done to it since the reset."""

    def __init__(self) -> None:
        self._count = 0

    def reset(self, seed: int | None = None, episode_id: str | None = None) -> Counted:
        self._count = 0
        return Counted()

    def step(self, action: Action) -> Counted:
        self._count += 1
        return Counted(count=self._count)

    @property
    def state(self) -> State:
        return State(step_count=self._count)

    def invoke(self, method: str, params: dict[str, Any]) -> Any:
        print(params["name"], flush=True)
        match params["name"]:
            case "exit":
                os._exit(3)
            case "hang":
                time.sleep(600)
            case "print":
                while True:
                    print("x" * 2**20)
            case "fail":
                raise ValueError("as asked")
        self._count += 1
        return {"content": [{"type": "text", "text": str(self._count)}]}
