"""As OpenEnv's own packages have it: the client is imported with the package."""

from .client import GuessEnv
from .models import GuessAction, GuessObservation

__all__ = ["GuessAction", "GuessEnv", "GuessObservation"]
