"""The environment echo, written for OpenEnv: what `bench.remote` compares ours with."""

from .client import EchoEnv
from .models import EchoAction, EchoObservation

__all__ = ["EchoAction", "EchoEnv", "EchoObservation"]
