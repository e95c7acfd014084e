import os
import sys
import time

import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """An action is a number of ACTS."""

    ACTS = ("nothing", "raise", "exit", "sleep", "nan", "print", "end", "info", "shape")

    def __init__(self, observation="box", fail_reset_at=0, action_bytes=0):
        self.action_space = spaces.Discrete(len(self.ACTS))
        if action_bytes:  # of which the first is the number
            self.action_space = spaces.Box(0, 255, (action_bytes,), np.uint8)
        box = spaces.Box(-1e9, 1e9, (3,), np.float64)
        kinds = {
            "box": box,
            "text": spaces.Text(5),
            "graph": spaces.Dict({"deep": spaces.Tuple((box, spaces.Graph(box, None)))}),
            "dict": spaces.Dict({"b": box, "a": spaces.MultiBinary(4)}),
            "pixels": spaces.Box(0, 255, (84, 84, 3), np.uint8),
            "alone": spaces.Box(-1.5, 1e9, (), np.float32),
        }
        self.observation_space = kinds[observation]
        self.resets = self.steps = 0
        self.fail_reset_at = fail_reset_at

    def _seen(self):
        space = self.observation_space
        if isinstance(space, spaces.Dict):
            return {"b": np.full(3, self.steps, float), "a": np.ones(4, np.int8)}
        return np.full(space.shape, self.steps, space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.resets += 1
        self.steps = 0
        if self.fail_reset_at == self.resets:
            raise RuntimeError("no reset")
        return self._seen(), {"options": options} if options else {}

    def step(self, action):
        act = self.ACTS[np.ravel(action)[0]]
        self.steps += 1
        reward, info = 1.0, {}
        if act == "raise":
            raise ValueError("trouble")
        if act == "exit":
            os._exit(5)
        if act == "sleep":
            time.sleep(60)
        if act == "nan":
            reward = float("nan")
        if act == "print":
            while True:
                print("x" * 1000)
        if act == "info":
            info = {"odd": object(), "pair": (1, np.float32(2)), "text": "t"}
        if act == "shape":
            return np.zeros(7), reward, False, False, info
        return self._seen(), reward, act == "end", False, info


sys.stdout.flush()
