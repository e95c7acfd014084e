"""Does what a test asks of it: the action's code is executed in the environment's process."""

import os
from typing import Any


class Probe:
    """Executes its action. For tests of envhub only."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"self": self}

    def reset(self, seed: int | None = None, note: str = "") -> dict[str, Any]:
        self.names["resets"] = self.names.get("resets", 0) + 1
        return {"seed": seed, "note": note, "pid": os.getpid(), "resets": self.names["resets"]}

    def step(self, action: dict[str, Any]) -> Any:
        self.names["result"] = None
        exec(action["code"], self.names)
        return self.names["result"] or {}

    @property
    def state(self) -> dict[str, Any]:
        return {"resets": self.names.get("resets", 0)}

    def close(self) -> None:
        print("closing")
