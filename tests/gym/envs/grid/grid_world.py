"""A walk on a square, registered as Gymnasium's own are."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Grid(gymnasium.Env):
    """Walk to the last corner."""

    def __init__(self, size: int = 5) -> None:
        self.size = size
        square = spaces.Box(0, size - 1, (2,), np.int32)
        self.observation_space = spaces.Dict(
            {"agent": square, "map": spaces.MultiBinary([size, size])}
        )
        self.action_space = spaces.MultiDiscrete([3, 3], start=[-1, -1])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.agent = self.np_random.integers(0, self.size, 2, dtype=np.int32)
        return self._seen(), {"map": np.eye(2), "env": self}

    def step(self, action: Any) -> Any:
        self.agent = np.clip(self.agent + action, 0, self.size - 1).astype(np.int32)
        there = bool((self.agent == self.size - 1).all())
        return self._seen(), np.float32(there), there, False, {"distance": np.int64(1)}

    def _seen(self) -> Any:
        seen = np.zeros((self.size, self.size), np.int8)
        seen[tuple(self.agent)] = 1
        return {"agent": self.agent, "map": seen}


gymnasium.register("Grid-v0", Grid)
