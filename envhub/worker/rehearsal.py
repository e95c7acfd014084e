"""A conversation with an environment of our own, held in the zygote before the first fork.

CPython writes into code while it is new: it counts the calls, then rewrites the code for the
types that it meets, and it caches where it found the attributes of types. What each session
would write so, page by page, is written here once and shared. What every call writes, the
count of references to the code that it runs, is brought together on few pages.

No author's code runs: to construct an environment is a session's business.
"""

from __future__ import annotations

import gc
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType, FunctionType

from envhub.authoring import schema
from envhub.authoring.types import Action, Observation, State
from envhub.wire.framing import encode_frame
from envhub.wire.messages import GetState, Request, Reset, Step, encode
from envhub.worker import session
from envhub.worker.answer import Answering
from envhub.worker.session import Shell
from envhub_sandbox import dense

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
    converse = partial(_converse, shell, signature, said)
    _bring_together(_code_of(converse))
    # what imports left in it, a session would replace, and write to each name that it drops
    sys._clear_type_cache()
    for _ in range(_TIMES):
        converse()


def _converse(shell: Shell, signature: schema.Signature, said: bytes) -> None:
    hub, ours = socket.socketpair()
    with hub:
        hub.sendall(said)
        hub.shutdown(socket.SHUT_WR)
        session.serve(shell, Answering(_Echo, signature), [ours.detach(), -1, -1])


def _code_of(work: Callable[[], None]) -> set[CodeType]:
    """Do it, and return the code that was run."""
    found: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


def _bring_together(code: set[CodeType]) -> None:
    """Give the functions that run this code copies of it, which lie side by side."""
    dense.fill()
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__ in code:
            function.__code__ = function.__code__.replace()
