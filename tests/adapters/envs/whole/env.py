import os

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

NOTHING, END, RAISE, EXIT, NAN, SHAPE = range(6)


class Counting(VectorEnv):
    """Counts its steps. In its infos are arrays, masks, and what has no plain form."""

    def __init__(self, num_envs, mode=AutoresetMode.SAME_STEP, says_mode=True):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": mode} if says_mode else {}
        self.single_action_space = gymnasium.spaces.Discrete(6)
        box = gymnasium.spaces.Box(0, 1e9, (2,), np.float64)
        self.single_observation_space = gymnasium.spaces.Dict(
            {"n": box, "odd": gymnasium.spaces.Discrete(2)}
        )
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.render_mode = "ansi"
        self.factor = 1.0
        self.mode = mode
        self.counts = np.zeros(num_envs)
        self.seeds = []

    def _seen(self):
        both = np.stack((self.counts, self.counts * 10), axis=1)
        return {"n": both, "odd": self.counts.astype(np.int64) % 2}

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        self.counts[mask] = 0.0
        return self._seen(), {"masked": mask, "level": (options or {}).get("level", 0)}

    def step(self, actions):
        if (actions == RAISE).any():
            raise RuntimeError("trouble")
        if (actions == EXIT).any():
            os._exit(5)
        self.counts += 1.0
        rewards = self.counts * self.factor
        if (actions == NAN).any():
            rewards[0] = np.nan
        over = actions == END
        infos = {"twice": self.counts * 2, "_twice": np.ones(self.num_envs, np.bool_)}
        if over.any() and self.mode is AutoresetMode.SAME_STEP:
            last = np.full(self.num_envs, None, dtype=object)
            for i in np.flatnonzero(over):
                last[i] = self.counts[i : i + 1].copy()
            infos |= {"final_obs": last, "_final_obs": over.copy()}
            self.counts[over] = 0.0
        seen = self._seen()
        if (actions == SHAPE).any():
            seen["n"] = seen["n"][:, :1]
        return seen, rewards, over, np.zeros(self.num_envs, np.bool_), infos

    def render(self):
        return tuple(f"{count:g}" for count in self.counts)


class Counters:
    """What names it; and Gymnasium's own CartPole, of which all are in one array."""

    def __init__(self):
        raise RuntimeError("only vectorised")

    def reset(self) -> None: ...

    def step(self, action: int) -> None: ...

    @property
    def state(self) -> None: ...

    @staticmethod
    def gymnasium_vector_env(num_envs, which="counting", mode="SameStep", **options):
        if which == "none":
            return gymnasium.make("CartPole-v1")
        if which == "more":
            return Counting(num_envs + 1)
        if which == "cartpole":
            return CartPoleVectorEnv(num_envs, **options)
        return Counting(num_envs, AutoresetMode(mode), **options)
