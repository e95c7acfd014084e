from openenv.core.env_server import create_app

from ..models import CounterAction, CounterObservation
from .environment import CounterEnvironment

app = create_app(
    CounterEnvironment,
    CounterAction,
    CounterObservation,
    env_name="counter",
    max_concurrent_envs=1,
)


@app.get("/status")
def status():
    return {"status": "ok"}
