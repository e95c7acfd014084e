"""An environment that is closed by its deadline, which is 2 seconds."""

import time
from typing import Any


class Lingers:
    def __init__(self) -> None:
        self.state = {"step_count": 0}

    def reset(self) -> dict[str, Any]:
        return {}

    def step(self, action: dict[str, Any]) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        time.sleep(60)
