"""One WebSocket, one session: OpenEnv's `/ws`.

Requests are answered in order, one at a time. A step, which nearly all are, is begun as it
comes and answered as it ends, without a task; whatever may have to wait has one. What comes
meanwhile waits in a bounded inbox. The client is listened to all the time, so one that
disappears in the middle of a step is noticed; the session is closed on every path.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.websockets import WebSocket

from envhub.door import frames
from envhub.door.connections.duplex import Duplex, taken
from envhub.door.kept import Caller, NotAttached
from envhub.errors import RemoteProtocolError

if TYPE_CHECKING:
    from envhub.hub.session import Session
    from envhub.wire.messages import Observed

MAX_WAITING = 256  # frames; an official client never has more than one
MAX_WAITING_CHARS = 16 * 1024 * 1024  # as much as the longest frame
_AT_ONCE = 64  # requests; then others have the loop

_log = logging.getLogger(__name__)


async def stream(websocket: WebSocket) -> None:
    """Serve one WebSocket from its handshake to its end."""
    caller = Caller.of(websocket)
    await websocket.accept()
    found = Stream(caller, websocket.query_params.get("session_id", ""))
    async with taken(websocket, found) as line:
        await found.run(line)


class Stream:
    """A connection, from the accepted handshake to its end.

    While too much has come that is not answered, the client is not listened to: TCP slows it
    down, its disappearance is noticed only when there is room again, and so are its pongs: a
    client that pipelines more than fits into steps longer than the pings' patience loses its
    connection.

    Args:
        caller: who is at the other end.
        wanted: the session that it wants to attach to; "" for one of its own.
    """

    def __init__(self, caller: Caller, wanted: str = "") -> None:
        self._caller = caller
        self._wanted = wanted
        self._rate = caller.holder.rate
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[int] = self._loop.create_future()  # the close code
        self._inbox: deque[str | None] = deque()  # None stands for a binary frame
        self._inbox_chars = 0
        self._line: Duplex | None = None
        self._session: Session | None = None
        self._is_asking = self._is_going_on = False
        self._working: asyncio.Task[None] | None = None

    async def run(self, line: Duplex) -> None:
        """Serve the client until either side ends. Cancelled, it still closes the session."""
        self._line = line
        try:
            self._work(self._open)
            code = await self._over
        finally:
            self._end(frames.NORMAL)
            try:
                if self._working is not None:
                    self._working.cancel()
                    await asyncio.wait([self._working])
            finally:
                await self._caller.leave()
        line.hang_up(code)

    # ------------------------------------------------------------ what the line brings

    def heard(self, message: str | bytes) -> None:
        """Take a frame, and answer it in its turn."""
        if self._over.done():
            return
        frame = message if isinstance(message, str) else None
        self._inbox.append(frame)
        self._inbox_chars += len(frame or "")
        self._go_on()

    def has_room(self) -> None:
        """Go on: the client reads again."""
        self._go_on()

    def hung_up(self) -> None:
        """End: the client is gone."""
        self._end(frames.NORMAL)

    def _end(self, code: int) -> None:
        if not self._over.done():
            self._over.set_result(code)
        self._inbox.clear()
        self._inbox_chars = 0

    # ------------------------------------------------------------ requests

    def _go_on(self) -> None:
        """Answer what waits. Stop listening while that is too much."""
        line = self._line
        if line is None or self._is_going_on:
            return
        self._is_going_on = True  # a step that cannot be sent is answered before it is begun
        try:
            left = _AT_ONCE
            while self._inbox and self._is_idle and not line.is_full:
                if not left:
                    self._loop.call_soon(self._go_on)
                    break
                left -= 1
                frame = self._inbox.popleft()
                self._inbox_chars -= len(frame or "")
                self._answer(frames.parse(frame))
        except Exception:
            self._give_up()
        self._is_going_on = False
        is_full = len(self._inbox) >= MAX_WAITING or self._inbox_chars >= MAX_WAITING_CHARS
        line.listen(not is_full)

    @property
    def _is_idle(self) -> bool:
        return not self._is_asking and self._working is None and self._session is not None

    def _answer(self, request: frames.Request | frames.Answer) -> None:
        session = self._session
        assert session is not None
        if isinstance(request, frames.Answer):
            self._say(request)
        elif request.verb == "close":
            self._end(frames.NORMAL)
        elif request.verb == "step" and self._rate is None and not self._caller.episode.lost:
            self._is_asking = True
            session.begin_step_raw(request.data, self._stepped, "json")
        else:
            self._work(lambda: self._ask(session, request))

    def _stepped(self, outcome: Observed | frames.Failure) -> None:
        self._is_asking = False
        try:
            self._say(self._told(outcome))
        except Exception:
            self._give_up()
        self._go_on()

    def _told(self, outcome: Observed | frames.Failure) -> frames.Answer:
        session, episode = self._session, self._caller.episode
        assert session is not None
        try:
            if isinstance(outcome, frames.FAILURES):
                with episode.at_stake(session):
                    raise outcome
            try:
                return frames.observation(outcome.payload)
            except RemoteProtocolError:
                with episode.at_stake(session), session.held_to_protocol():
                    raise
        except frames.FAILURES as failure:
            return frames.failed(failure)

    def _say(self, answer: frames.Answer) -> None:
        """Send a frame, and close the connection after it if it is the last.

        Both leave at once: the client must not find the connection still open when it has
        read that its session is over, or its next call goes nowhere.
        """
        line = self._line
        if line is None or self._over.done():
            return
        line.say(answer.text)
        if answer.close_code:
            line.hang_up(answer.close_code)
            self._end(answer.close_code)

    def _give_up(self) -> None:
        _log.exception("a bug in envhub ended a session of %s", self._caller.name)
        with suppress(Exception):
            self._say(frames.internal())
        self._end(frames.BROKEN)

    # ------------------------------------------------------------ what may have to wait

    def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        self._working = self._loop.create_task(self._worked(work))

    async def _worked(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except Exception:
            self._give_up()
        self._working = None
        self._go_on()

    async def _ask(self, session: Session, request: frames.Request) -> None:
        """Answer a request that only the session can answer."""
        self._say(await self._answered(session, request))

    async def _answered(self, session: Session, request: frames.Request) -> frames.Answer:
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

    async def _open(self) -> None:
        """Have a session, or say why there is none."""
        caller = self._caller
        try:
            if self._wanted:
                self._session = caller.attach(self._wanted)
            else:
                self._session = await caller.open()
        except NotAttached as error:
            self._say(frames.not_attached(str(error)))
        except frames.FAILURES as failure:
            self._say(frames.refused(failure, caller.name))
