"""As OpenEnv's own packages have it: the client is imported with the package."""

from .client import CounterEnv
from .models import CounterAction, CounterObservation

__all__ = ["CounterAction", "CounterEnv", "CounterObservation"]
