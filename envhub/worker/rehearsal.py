"""A conversation with an environment of our own, held in the zygote before the first fork.

CPython writes into code while it is new: it counts the calls, then rewrites the code for the
types that it meets, and it caches where it found the attributes of types. What each session
would write so, page by page, is written here once and shared.

No author's code runs: to construct an environment is a session's business.
"""

from __future__ import annotations

import socket

from envhub.authoring import schema
from envhub.authoring.types import Action, Observation, State
from envhub.wire.framing import encode_frame
from envhub.wire.messages import GetState, Request, Reset, Step, encode
from envhub.worker.answer import Answering
from envhub.worker.session import Shell

_TIMES = 32  # after this many calls CPython 3.11 has rewritten what it will; more saves nothing


class _Said(Action):
    word: str


class _Heard(Observation):
    word: str = ""


class _Echo:
    def reset(self, seed: int | None = None, episode_id: str | None = None) -> _Heard:
        return _Heard()

    def step(self, action: _Said) -> _Heard:
        return _Heard(word=action.word, reward=1.0)

    @property
    def state(self) -> State:
        return State()


def run(shell: Shell) -> None:
    """Hold the conversation, through what will serve the sessions. Takes some 10 ms."""
    signature = schema.read(_Echo)
    requests: list[Request] = [
        Reset(1, "msgpack", schema.encode_native({"seed": 1})),
        Step(2, "msgpack", schema.encode_native({"word": "x"})),
        GetState(3, "msgpack"),
    ]
    said = b"".join(encode_frame(encode(request)) for request in requests)
    for _ in range(_TIMES):
        hub, ours = socket.socketpair()
        with hub, ours:
            hub.sendall(said)
            hub.shutdown(socket.SHUT_WR)
            shell(ours, Answering(_Echo, signature))
