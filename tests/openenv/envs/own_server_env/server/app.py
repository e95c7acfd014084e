"""Builds a server of its own, with an environment in it that everybody shares."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse
from openenv.core.env_server.http_server import HTTPEnvServer
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State


class Count(Environment):
    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self):
        super().__init__()
        self._state = State()

    def reset(self, seed=None, episode_id=None, **options):
        self._state = State()
        return Observation(metadata={"seed": seed})

    def step(self, action, timeout_s=None, **options):
        self._state.step_count += 1
        return Observation(reward=1.0, metadata={"count": self._state.step_count})

    @property
    def state(self):
        return self._state


class Server(HTTPEnvServer):
    """As authors have it who keep one environment between two requests."""

    def __init__(self):
        super().__init__(Count, Action, Observation, max_concurrent_envs=8)
        self.shared = Count()

    def register_routes(self, app):
        @app.post("/reset")
        async def reset(request: Request):
            observation = self.shared.reset(**(await request.json()))
            return {"observation": observation.model_dump(), "reward": None, "done": False}

        @app.post("/step")
        async def step(request: Request):
            observation = self.shared.step((await request.json())["action"])
            return {"observation": observation.model_dump(), "reward": 1.0, "done": False}

        @app.get("/state")
        async def state():
            return self.shared.state.model_dump()

        super().register_routes(app)


@asynccontextmanager
async def lifespan(app):
    Server().register_routes(app)
    yield


app = FastAPI(lifespan=lifespan)


@app.get("/hello/{name}")
async def hello(name: str, request: Request, loud: bool = False):
    text = f"hello {name} of {request.headers.get('x-database-id')}"
    return {"text": text.upper() if loud else text, "root": request.scope["root_path"]}


@app.get("/raw/{path:path}")
async def raw(path: str, request: Request):
    scope = request.scope
    return {"raw": scope["raw_path"].decode(), "query": scope["query_string"].decode()}


@app.get("/page")
async def page():
    return HTMLResponse("<p>a page</p>", headers={"x-own": "yes"})


@app.get("/headers")
async def headers(request: Request):
    return dict(request.headers)


@app.websocket("/wrong/{how}")
async def wrong(websocket: WebSocket, how: str):
    if how == "unaccepted":
        return
    if how == "early":
        await websocket._send({"type": "websocket.send", "text": "hello"})
    await websocket.accept()
    if how == "twice":
        await websocket._send({"type": "websocket.accept"})
    if how == "code":
        await websocket.close(1006)
    if how == "late":
        await websocket.close(4001)
        await websocket._send({"type": "websocket.send", "text": "hello"})
    if how != "silent":
        await websocket._receive()


@app.post("/exit")
async def leave():
    os._exit(3)


@app.websocket("/echo")
async def echo(websocket: WebSocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)
        await websocket.send_text(text[::-1])
        if text == "end":
            await websocket.close(4001)
            return
