"""What other people's trainers take, made in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envhub.adapters.gymnasium import make_vec
from envhub.errors import UsageError

if TYPE_CHECKING:
    from envhub.adapters.sb3 import VecEnv


def make_sb3_vec(name: str, num_envs: int, **options: Any) -> VecEnv:
    """Return `num_envs` environments of `name`, as Stable-Baselines3's algorithms take them.

        venv = envhub.make_sb3_vec("gym:CartPole-v1", 8)
        PPO("MlpPolicy", venv).learn(100_000)

    Args:
        name: of the environment, as in `make_vec`.
        num_envs: how many.
        options: as in `make_vec`, but for `autoreset_mode`.

    Raises:
        UsageError: Stable-Baselines3 is not installed, or as in `make_vec`.
        NotImplementedError: Stable-Baselines3 does not support its observations.
        EnvhubError: as `make_vec`.
    """
    try:
        from envhub.adapters.sb3 import VecEnv
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Stable-Baselines3 is not installed: {error}",
            hint="pip install 'envhub-rl[sb3]'",
        ) from error
    vector_env = make_vec(name, num_envs, autoreset_mode="same_step", **options)
    try:
        return VecEnv(vector_env)
    except BaseException:
        vector_env.close()
        raise
