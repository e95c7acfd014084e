"""Four accidents, played on whatever server there is; what was seen is put into words.

The words are those of the table in docs/from-openenv.md. `tests/openenv/test_containment.py`
holds envhub to them, `tests/differential/test_containment.py` OpenEnv's own server as well.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

AT_ONCE = 64
STEP_S = 4  # the deadline of a step that envhub is given; the long step takes 15
_REPLY_S = 90.0  # longer than the longest step


class Session:
    """One WebSocket, and the session behind it."""

    def __init__(self, address: str, stack: ExitStack) -> None:
        url = address.replace("http://", "ws://") + "/ws"
        self._websocket = stack.enter_context(connect(url, proxy=None, close_timeout=5))

    def reset(self) -> Any:
        return self._ask({"type": "reset"})

    def step(self, do: str = "count") -> Any:
        return self._ask({"type": "step", "data": {"do": do}})

    def _ask(self, frame: dict[str, Any]) -> Any:
        """Return the reply's data; of a connection that broke off, how."""
        with suppress(ConnectionClosed):  # a refusal that came before can still be read
            self._websocket.send(json.dumps(frame))
        try:
            return json.loads(self._websocket.recv(timeout=_REPLY_S))["data"]
        except ConnectionClosed as end:
            return {"broken": end.rcvd is None}


@contextmanager
def _session(address: str) -> Iterator[Session]:
    with ExitStack() as stack:
        yield Session(address, stack)


def leak(address: str) -> str:
    """Count in a session, and then in the next."""
    with _session(address) as first:
        first.reset()
        for _ in range(4):
            first.step()
    while True:  # OpenEnv's server frees its one place some time after the client has left
        with _session(address) as second:
            if "observation" in second.reset():
                count = second.step()["observation"]["steps"]
                return f"the next session counts its first step as {count}"


def end(address: str) -> str:
    """End the process in a step, beside a session that does nothing wrong."""
    with _session(address) as dying, _session(address) as beside:
        dying.reset()
        neighbour = beside.reset()
        told = _words(dying.step("exit"))
        again = _words(dying.reset())
        if "code" not in neighbour:
            neighbour = beside.step()
    return f"{told}; its reset: {again}; its neighbour: {_words(neighbour)}; {_alive(address)}"


def hang(address: str) -> str:
    """Take a step of 15 s, beside a session that does nothing wrong."""
    order: list[str] = []
    replies: list[Any] = []

    def sleep() -> None:
        replies.append(sleeping.step("sleep"))
        order.append("the long step")

    with _session(address) as sleeping, _session(address) as beside:
        sleeping.reset()
        neighbour = beside.reset()
        thread = threading.Thread(target=sleep)
        thread.start()
        if "code" not in neighbour:
            neighbour = beside.step()
            order.append("its neighbour")
        thread.join()
        again = _words(sleeping.reset())
    first = f"; first answered: {order[0]}"
    return (
        f"{_words(replies[0])}; its reset: {again}; its neighbour: {_words(neighbour)}{first}"
    )


def crowd(address: str) -> str:
    """Open 64 sessions, and step them all while all are open."""
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as together:
        sessions = [Session(address, stack) for _ in range(AT_ONCE)]
        begun = list(together.map(lambda session: session.reset(), sessions))
        playing = [s for s, reply in zip(sessions, begun, strict=True) if "code" not in reply]
        counts = {
            reply["observation"]["steps"] for reply in together.map(Session.step, playing)
        }
    refused = Counter(_words(reply) for reply in begun if "code" in reply)
    told = [f"{number} are told {words}" for words, number in refused.items()]
    played = f"{len(playing)} of {AT_ONCE} play, and count {sorted(counts)}"
    return "; ".join([played, *told])


def _words(reply: Any) -> str:
    if "broken" in reply:
        return "the connection breaks off" if reply["broken"] else "the connection is closed"
    if "code" in reply:
        return " ".join(f"`{reply[key]}`" for key in ("code", "cause") if key in reply)
    return "answered"


def _alive(address: str) -> str:
    try:
        with _session(address):
            return "the server goes on"
    except (OSError, WebSocketException):  # even half a handshake
        return "the server is gone"


@dataclass(frozen=True, slots=True)
class Accident:
    """One row of the table.

    Args:
        name: what happens.
        play: lets it happen, and returns what was seen.
        stock: what is seen with OpenEnv's server.
        ours: what is seen with envhub.
    """

    name: str
    play: Callable[[str], str]
    stock: str
    ours: str


_FULL = "`CAPACITY_REACHED`"
ACCIDENTS = (
    Accident(
        "four steps count in a variable of the module, and the session ends",
        leak,
        stock="the next session counts its first step as 5",
        ours="the next session counts its first step as 1",
    ),
    Accident(
        "`os._exit` in a step",
        end,
        stock="the connection breaks off; its reset: the connection breaks off; "
        f"its neighbour: {_FULL}; the server is gone",
        ours="`EXECUTION_ERROR` `worker_lost`; its reset: answered; "
        "its neighbour: answered; the server goes on",
    ),
    Accident(
        "a step of 15 s",
        hang,
        stock=f"answered; its reset: answered; its neighbour: {_FULL}; "
        "first answered: the long step",
        ours="`EXECUTION_ERROR` `deadline_exceeded`; its reset: answered; "
        "its neighbour: answered; first answered: its neighbour",
    ),
    Accident(
        f"{AT_ONCE} sessions of a class that declares no concurrency",
        crowd,
        stock=f"1 of {AT_ONCE} play, and count [1]; {AT_ONCE - 1} are told {_FULL}",
        ours=f"{AT_ONCE} of {AT_ONCE} play, and count [1]",
    ),
)
