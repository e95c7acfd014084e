"""One WebSocket, one session: OpenEnv's `/ws`.

Two tasks share a connection. One listens all the time, so that a client that disappears is
noticed in the middle of a step as well; the other opens the session and answers the requests
in order. Between them stands a bounded inbox. Whoever ends first ends the other, and the
session is closed on every path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from starlette.websockets import WebSocket, WebSocketDisconnect

from envhub.door import frames
from envhub.door.kept import Caller, NotAttached

if TYPE_CHECKING:
    from envhub.hub.session import Session

MAX_WAITING = 256  # frames; an official client never has more than one
MAX_WAITING_CHARS = 16 * 1024 * 1024  # as much as the longest frame
SEND_DEADLINE_S = (
    60.0  # what upstream's client waits for a reply; one slower is as good as gone
)

_log = logging.getLogger(__name__)


async def stream(websocket: WebSocket) -> None:
    """Serve one WebSocket from its handshake to its end."""
    caller = Caller.of(websocket)
    await websocket.accept()
    await Stream(websocket, caller).run()


class Inbox:
    """Frames that have arrived and are not yet answered. None stands for a binary one.

    While it is full the client is not listened to: TCP slows it down, its disappearance is
    noticed only when there is room again, and so are its pongs: a client that pipelines more
    than fits into steps longer than the pings' patience loses its connection.
    """

    def __init__(self) -> None:
        self._frames: deque[str | None] = deque()
        self._chars = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, frame: str | None) -> None:
        """Append a frame, then wait until there is room for another."""
        self._frames.append(frame)
        self._chars += len(frame or "")
        self._arrived.set()
        while len(self._frames) >= MAX_WAITING or self._chars >= MAX_WAITING_CHARS:
            self._room.clear()
            await self._room.wait()

    async def get(self) -> str | None:
        """Return the oldest frame, waiting for one if need be."""
        while not self._frames:
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._frames.popleft()
        self._chars -= len(frame or "")
        self._room.set()
        return frame


class Stream:
    """A connection, from the accepted handshake to its end.

    Args:
        websocket: accepted.
        caller: who is at the other end.
    """

    def __init__(self, websocket: WebSocket, caller: Caller) -> None:
        self._websocket = websocket
        self._inbox = Inbox()
        self._caller = caller
        self._rate = caller.holder.rate
        self._tasks = anyio.create_task_group()
        self._is_open = True

    async def run(self) -> None:
        """Serve the client until either side ends. Cancelled, it still closes the session."""
        try:
            async with self._tasks:
                self._tasks.start_soon(self._listen)
                await self._converse()
                self._tasks.cancel_scope.cancel()
        finally:
            await self._caller.leave()
        await self._hang_up(frames.NORMAL)

    async def _listen(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._is_gone()
                return
            await self._inbox.put(message.get("text"))

    async def _converse(self) -> None:
        try:
            session = await self._open()
            while session is not None:
                request = frames.parse(await self._inbox.get())
                if isinstance(request, frames.Answer):
                    answer = request
                elif request.verb == "close":
                    return
                else:
                    answer = await self._ask(session, request)
                await self._say(answer)
                if answer.close_code:
                    return
        except WebSocketDisconnect:
            self._is_gone()
        except Exception:
            _log.exception("a bug in envhub ended a session of %s", self._caller.name)
            with suppress(WebSocketDisconnect):
                await self._say(frames.internal())

    async def _ask(self, session: Session, request: frames.Request) -> frames.Answer:
        """Return the answer to a request that only the session can answer."""
        episode = self._caller.episode
        if episode.lost and request.verb not in ("reset", "receipt", "mcp"):
            return frames.episode_lost()
        try:
            if self._rate is not None and request.verb in ("reset", "step", "state"):
                await self._rate.turn()  # a tool's call waits where it is made
            with episode.at_stake(session):
                return await self._do(session, request)
        except frames.FAILURES as failure:
            return frames.failed(failure)

    async def _do(self, session: Session, request: frames.Request) -> frames.Answer:
        match request.verb:
            case "reset":
                observed = await session.reset_raw(request.data, form="json")
                self._caller.episode.lost = False
                with session.held_to_protocol():
                    return frames.observation(observed.payload)
            case "step":
                observed = await session.step_raw(request.data, form="json")
                with session.held_to_protocol():
                    return frames.observation(observed.payload)
            case "mcp":
                from envhub.door import rpc  # brings pydantic, which a step need not pay

                return frames.mcp(await rpc.answer_text(self._caller, request.data))
            case "receipt":
                return frames.receipt(session.receipt)
            case _:
                payload = await session.state_raw(form="json")
                with session.held_to_protocol():
                    return frames.state(payload)

    async def _open(self) -> Session | None:
        """Return the session, or None when the client was told that there is none."""
        caller = self._caller
        wanted = self._websocket.query_params.get("session_id")
        if wanted:
            try:
                return caller.attach(wanted)
            except NotAttached as error:
                await self._say(frames.not_attached(str(error)))
                return None
        try:
            return await caller.open()
        except frames.FAILURES as failure:
            await self._say(frames.refused(failure, caller.name))
            return None

    async def _say(self, answer: frames.Answer) -> None:
        """Send a frame, and close the connection after it if it is the last.

        Both leave at once: the client must not find the connection still open when it has
        read that its session is over, or its next call goes nowhere.

        Raises:
            WebSocketDisconnect: the client is gone.
        """
        timer = asyncio.get_running_loop().call_later(SEND_DEADLINE_S, self._is_gone)
        try:
            await self._websocket.send_text(answer.text)
            if answer.close_code:
                await self._hang_up(answer.close_code)
        finally:
            timer.cancel()

    async def _hang_up(self, code: int) -> None:
        if self._is_open:
            self._is_open = False
            with suppress(WebSocketDisconnect):
                await self._websocket.close(code)

    def _is_gone(self) -> None:
        self._is_open = False
        self._tasks.cancel_scope.cancel()
