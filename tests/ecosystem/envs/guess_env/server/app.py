from openenv.core.env_server import create_app

from ..models import GuessAction, GuessObservation
from .environment import GuessEnvironment

app = create_app(GuessEnvironment, GuessAction, GuessObservation, env_name="guess_env")
