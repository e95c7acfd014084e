import os

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv


class Named(gymnasium.ObservationWrapper):
    """Observations by name, with a picture among them."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict(
            {
                "state": env.observation_space,
                "halves": spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))[1],
                "image": spaces.Box(0, 255, (4, 6, 3), np.uint8),
            }
        )

    def observation(self, observation):
        total = int(np.abs(observation).sum() * 1000)
        image = np.full((4, 6, 3), total % 256, np.uint8)
        return {"state": observation, "halves": total % 3, "image": image}


class Nested(gymnasium.ObservationWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"inside": env.observation_space})

    def observation(self, observation):
        return {"inside": observation}


class Telling(gymnasium.Wrapper):
    """An info of every kind, and options that are told."""

    def reset(self, *, seed=None, options=None):
        seen, info = self.env.reset(seed=seed, options=None)
        self.steps = 0
        return seen, {**info, "options": options, "began": True, "final_obs": "its own"}

    def step(self, action):
        seen, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        told = {
            "steps": self.steps,
            "text": f"step {self.steps}",
            "pair": (self.steps, None),
            "deep": {"array": np.arange(self.steps % 3), "float": np.float32(reward)},
            "kind": self.steps if self.steps % 2 else self.steps / 2,
        }
        if self.steps % 4 == 0:
            told["_odd"] = [1, "two"]
        return seen, reward, terminated, truncated, {**info, **told}


class Troubled(gymnasium.Wrapper):
    """Raises, or ends its process, at an action that `trouble` names."""

    def __init__(self, env):
        super().__init__(env)
        self.trouble = ""
        self.fit = None

    def step(self, action):
        if self.trouble == "raise":
            self.trouble = ""
            raise ValueError("trouble")
        if self.trouble == "exit":
            os._exit(5)
        return self.env.step(action)

    def twice(self, number, *, more=0):
        return 2 * number + more

    def itself(self):
        return self


WRAPPERS = {"named": Named, "nested": Nested, "telling": Telling, "troubled": Troubled}


def make(which="CartPole-v1", wrappers=(), **options):
    env = gymnasium.make(which, **options)
    for name in wrappers:
        env = WRAPPERS[name](env)
    return env


class Boxed:
    def __init__(self) -> None:
        raise RuntimeError("only vectorised")

    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...

    @property
    def state(self) -> None: ...

    gymnasium_env = staticmethod(make)

    @staticmethod
    def gymnasium_vector_env(num_envs):
        return SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
