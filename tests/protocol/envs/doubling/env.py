"""What the client in JavaScript needs to see: arrays, and a step that has parts."""

from collections.abc import Iterator
from typing import Any

import numpy as np


class Doubling:
    def __init__(self) -> None:
        self.state = {"step_count": 0}

    def reset(self, seed: int | None = None) -> dict[str, Any]:
        self.state = {"step_count": 0}
        return {"numbers": np.array([[seed or 0, 1.5]], dtype="<f4")}

    def step(self, action: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.state["step_count"] += 1
        numbers = action["numbers"]
        for _ in range(action["parts"]):
            numbers = numbers * 2
            yield {"numbers": numbers}
