import os
import time
from pathlib import Path

from openenv.core.env_server.interfaces import Environment

from ..models import CounterAction, CounterObservation, CounterState

steps_of_everybody = 0  # as authors have them: shared by the sessions of a stock server


class CounterEnvironment(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = False

    def __init__(self):
        super().__init__()
        self._state = CounterState()
        self._cancelled = 0

    def cancel(self):
        self._cancelled += 1

    def reset(self):
        self._state = CounterState(count=0)
        return CounterObservation(count=0, done=False, reward=0.0)

    def step(self, action: CounterAction):
        global steps_of_everybody
        steps_of_everybody += 1
        self._state.count += action.by * int(os.environ["COUNTER_STEP"])
        self._state.step_count += 1
        seen = _DEEDS[action.do](self) if action.do else ""
        return CounterObservation(
            count=self._state.count, reward=0.5, done=self._state.count > 9, truncated=True,
            seen=seen,
        )  # fmt: skip

    @property
    def state(self):
        return self._state


def _fail(_):
    raise KeyError("boom")


def _wait(environment):
    before = environment._cancelled
    print("begun", flush=True)
    while environment._cancelled == before:
        pass
    return "left"


_DEEDS = {
    "global": lambda _: str(steps_of_everybody),
    "exit": lambda _: os._exit(3),
    "hang": lambda _: time.sleep(60),
    "fail": _fail,
    "wait": _wait,
    "image": lambda _: (Path("/app/env/server") / "counter.txt").read_text(),
    "folder": lambda _: Path("server/counter.txt").read_text(),
    "variables": lambda _: os.environ["COUNTER_FROM"],
    "network": lambda _: str(Path("/proc/net/dev").read_text().count("eth")),
}
