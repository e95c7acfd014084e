"""The least that an environment of Gymnasium's does: it counts its steps."""

import gymnasium
import numpy as np


class Counter(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0.0, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self._seen = np.zeros(1, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._seen = np.zeros(1, np.float32)
        return self._seen, {}

    def step(self, action):
        self._seen = self._seen + 1
        return self._seen, 1.0, False, False, {}
