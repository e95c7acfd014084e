import time

import gymnasium


class Brief(gymnasium.Env):
    """An action of 1 outlives the time of an episode that it is in."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Discrete(1000)
    count = 0
    began = 0.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.began = time.monotonic()
        self.count = 0
        return 0, {}

    def step(self, action):
        while action and time.monotonic() - self.began < 0.6:
            time.sleep(0.05)
        self.count += 1
        return self.count, 1.0, False, False, {}
