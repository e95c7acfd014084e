"""An application that builds a server of its own, hosted as it is: one process for all.

What answers is the author's ASGI application, on the event loop of a session process, with
its lifespan. Requests come over the hub's channel like any other call, one at a time; a
WebSocket's turn ends when the application waits for the next frame. Its sessions are its own
affair: behind the sandbox's walls, but not from each other.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

from envhub.errors import EnvironmentFailed, UsageError

_ASGI = {"version": "3.0", "spec_version": "2.4"}
_MOST_SOCKETS = 256
_MOST_FRAMES = 4096  # that wait for the end of a turn
Event = dict[str, Any]
App = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Any]


class Application:
    """Answers "asgi/http" and "asgi/websocket"; reset, step and state by the app's routes.

    Attributes:
        app: the author's, set on a subclass.
    """

    app: App
    app_name = ""
    is_application = True

    def __init__(self) -> None:
        self._lifespan: _Conversation | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sockets: dict[int, _Conversation] = {}

    async def invoke_async(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the application's answer to a request, or to a frame."""
        await self._begin()
        if method == "asgi/http":
            answer = await self._request(params, base64.b64decode(params["body"]))
            return {**answer, "body": base64.b64encode(answer["body"]).decode()}
        if method == "asgi/websocket":
            return {"events": [_told(event) for event in await self._frame(params)]}
        raise UsageError(f"{method} is not supported for this environment")

    invoke = invoke_async

    async def reset(self, **options: Any) -> Any:
        """Begin an episode by POST /reset."""
        return await self._result("POST", "/reset", options)

    async def step(self, action: Any) -> Any:
        """Take an action by POST /step."""
        return await self._result("POST", "/step", {"action": action})

    @property
    def state(self) -> Any:
        """Read the state by GET /state; in the thread beside the loop."""
        if self._loop is None:
            raise EnvironmentFailed("the application has not begun: reset it first")
        read = self._result("GET", "/state", None)
        return asyncio.run_coroutine_threadsafe(read, self._loop).result()

    async def close(self) -> None:
        """Let the application shut down."""
        if self._lifespan is not None:
            await self._lifespan.turn({"type": "lifespan.shutdown"})

    async def _begin(self) -> None:
        """Let the application start up, once; not every one has a lifespan."""
        if self._lifespan is None:
            self._loop = asyncio.get_running_loop()
            scope = {"type": "lifespan", "asgi": _ASGI, "state": {}}
            self._lifespan = _Conversation(type(self).app, scope)
            for event in await self._lifespan.turn({"type": "lifespan.startup"}):
                if event["type"] == "lifespan.startup.failed":
                    raise EnvironmentFailed(f"its start-up failed: {event.get('message', '')}")

    async def _result(self, method: str, path: str, body: Any) -> Any:
        await self._begin()
        request = {
            "method": method,
            "path": path,
            "query": "",
            "headers": [["content-type", "application/json"]],
        }
        text = b"" if body is None else json.dumps(body).encode()
        answer = await self._request(request, text)
        if answer["status"] != 200:
            words = answer["body"][:1000].decode(errors="replace")
            raise EnvironmentFailed(f"{method} {path}: {answer['status']}: {words}")
        value = json.loads(answer["body"])
        if isinstance(value, dict) and isinstance(value.get("observation"), dict):
            beside = {key: value[key] for key in ("reward", "done") if key in value}
            return {**value["observation"], **beside}
        return value

    async def _request(self, params: dict[str, Any], body: bytes) -> dict[str, Any]:
        scope = {**_scope(params), "type": "http", "method": params["method"]}
        talk = _Conversation(type(self).app, scope)
        events = await talk.turn({"type": "http.request", "body": body, "more_body": False})
        talk.end()
        started = next((e for e in events if e["type"] == "http.response.start"), None)
        if started is None:
            raise EnvironmentFailed(f"no response to {params['method']} {params['path']}")
        chunks = [e.get("body", b"") for e in events if e["type"] == "http.response.body"]
        return {
            "status": started["status"],
            "headers": _texts(started.get("headers", [])),
            "body": b"".join(chunks),
        }

    async def _frame(self, params: dict[str, Any]) -> list[Event]:
        key, event = params["socket"], params["event"]
        if event["type"] == "websocket.connect":
            if len(self._sockets) >= _MOST_SOCKETS:
                return [{"type": "websocket.close", "code": 1013}]
            subprotocols: list[str] = []
            scope = {**_scope(params), "type": "websocket", "subprotocols": subprotocols}
            self._sockets[key] = _Conversation(type(self).app, {**scope, "scheme": "ws"})
        talk = self._sockets.get(key)
        if talk is None:
            return [{"type": "websocket.close", "code": 1011}]
        try:
            events = await talk.turn(event)
        except Exception:
            del self._sockets[key]
            raise
        if talk.is_over or event["type"] == "websocket.disconnect":
            talk.end()
            del self._sockets[key]
            if all(said["type"] != "websocket.close" for said in events):
                events.append({"type": "websocket.close", "code": 1011})  # it just returned
        return events


class _Conversation:
    """The application, called once, for a request, a WebSocket or the lifespan."""

    def __init__(self, app: App, scope: Event) -> None:
        self._said: list[Event] = []
        self._heard: asyncio.Queue[Event] = asyncio.Queue()
        self._listens = asyncio.Event()
        self._task = asyncio.ensure_future(app(scope, self._receive, self._send))

    @property
    def is_over(self) -> bool:
        """Whether the application has returned."""
        return bool(self._task.done())

    async def turn(self, event: Event) -> list[Event]:
        """Tell it something; return what it says until it listens again, or is over.

        Raises:
            Exception: the application's own, if it had said nothing.
        """
        self._listens.clear()
        self._heard.put_nowait(event)
        listens = asyncio.ensure_future(self._listens.wait())
        try:
            await asyncio.wait({listens, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listens.cancel()
        said, self._said = self._said, []
        if self._task.done() and (error := self._task.exception()) and not said:
            raise error
        return said

    def end(self) -> None:
        """Have no more of it."""
        self._task.cancel()

    async def _receive(self) -> Event:
        if self._heard.empty():
            self._listens.set()
        return await self._heard.get()

    async def _send(self, event: Event) -> None:
        if len(self._said) >= _MOST_FRAMES:
            raise RuntimeError("the application says more than anybody reads")
        self._said.append(event)


def _scope(params: dict[str, Any]) -> Event:
    path = params["path"]
    raw = params.get("raw_path") or quote(path)
    return {
        "asgi": _ASGI,
        "http_version": "1.1",
        "scheme": "http",
        "path": path,
        "raw_path": raw.encode("latin-1"),
        "query_string": params["query"].encode("latin-1"),
        "root_path": "",
        "headers": [(n.encode("latin-1"), v.encode("latin-1")) for n, v in params["headers"]],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }


def _told(event: Event) -> Event:
    """Return what an application says on a WebSocket, for JSON."""
    kind = event["type"]
    if kind == "websocket.close":
        return {"type": kind, "code": event.get("code", 1000)}
    if kind == "websocket.send":
        data, text = event.get("bytes"), event.get("text")
        if text is not None:
            return {"type": kind, "text": text}
        return {"type": kind, "bytes": base64.b64encode(data or b"").decode()}
    return {"type": kind}


def _texts(headers: Any) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
