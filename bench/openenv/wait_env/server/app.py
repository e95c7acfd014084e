"""OpenEnv's application, with room for every session of the storm."""

from openenv.core.env_server import create_app

from ..models import WaitAction, WaitObservation
from .environment import WaitEnvironment

app = create_app(
    WaitEnvironment,
    WaitAction,
    WaitObservation,
    env_name="openenv_wait",
    max_concurrent_envs=100_000,
)
