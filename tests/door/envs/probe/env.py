"""What upstream's replies were recorded with: one operation for each thing that can happen."""

import datetime
import os
import time
from typing import Any

from envhub import Action, Environment, Observation, State


class ProbeAction(Action):
    op: str
    n: int = 0


class ProbeObservation(Observation):
    text: str = ""
    x: Any = None


class ProbeState(State):
    last: str = ""


class Probe(Environment[ProbeAction, ProbeObservation, ProbeState]):
    """Does what the action names."""

    def __init__(self) -> None:
        self._state: ProbeState | None = None

    def reset(  # type: ignore[override]  # shorter than the base: unknown options are dropped
        self, seed: Any = None, episode_id: str | None = None, difficulty: str = "easy"
    ) -> ProbeObservation:
        if difficulty == "boom":
            raise RuntimeError("reset boom")
        if difficulty == "hang":
            time.sleep(600)
        text = f"reset seed={seed} diff={difficulty}"
        self._state = ProbeState(episode_id=episode_id or "ep", last=text)
        return ProbeObservation(text=text)

    def step(
        self, action: ProbeAction, timeout_s: float | None = None, tag: str = "none"
    ) -> ProbeObservation:
        if self._state is None:
            raise RuntimeError("call reset first")
        self._state.step_count += 1
        self._state.last = action.op
        match action.op:
            case "raise":
                raise KeyError("boom key")
            case "os_exit":
                os._exit(7)
            case "hang":
                time.sleep(600)
            case "done":
                return ProbeObservation(text="done", done=True, reward=1)
            case "bool":
                return ProbeObservation(text="bool", reward=True)
            case "nan":
                return ProbeObservation(text="nan", reward=float("nan"), x=float("inf"))
            case "meta":
                metadata = {"k": 1, "tag": tag, "timeout": timeout_s}
                return ProbeObservation(text="m", reward=0.5, metadata=metadata)
            case "bytes":
                return ProbeObservation(text="b", x=b"ab\xff")
            case "bytesok":
                return ProbeObservation(text="b", x=b"abc")
            case "dt":
                moment = datetime.datetime(2026, 1, 1)
                delta = datetime.timedelta(seconds=5)
                x = {"d": moment, "s": {1, 2}, "t": (1, 2), 1: 2, "e": delta}
                return ProbeObservation(text="dt", x=x)
            case "tag":
                text = f"tag={tag} timeout={timeout_s} meta={action.metadata}"
                return ProbeObservation(text=text)
            case "big":
                return ProbeObservation(text="x" * action.n)
        return ProbeObservation(text=action.op, reward=0.25)

    @property
    def state(self) -> ProbeState:
        return self._state if self._state is not None else ProbeState()
