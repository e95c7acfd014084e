"""OpenEnv's application, with room for every session of the benchmark."""

from openenv.core.env_server import create_app

from ..models import EchoAction, EchoObservation
from .environment import EchoEnvironment

app = create_app(
    EchoEnvironment,
    EchoAction,
    EchoObservation,
    env_name="openenv_echo",
    max_concurrent_envs=100_000,
)
