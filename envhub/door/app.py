"""The door as one ASGI application: routes, and what wraps them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router, WebSocketRoute

from envhub.door import http, operations, tasks, tools
from envhub.door.address import NAME
from envhub.door.applications import Applications, Forwarding
from envhub.door.bodies import InvalidBody
from envhub.door.kept import KeptSessions
from envhub.door.native import connection as native
from envhub.door.native.lanes import GRACE_S, Lanes
from envhub.door.origin import SameOrigin
from envhub.door.stream import stream
from envhub.door.tokens import Bearer, Tokens

if TYPE_CHECKING:
    from envhub.hub.hub import Hub

OPENENV: tuple[BaseRoute, ...] = (
    WebSocketRoute("/ws", stream),
    Route("/health", http.health),
    Route("/metadata", http.metadata),
    Route("/schema", http.schema),
    Route("/state", http.state),
    Route("/reset", http.reset, methods=["POST"]),
    Route("/step", http.step, methods=["POST"]),
    Route("/openapi.json", http.document),
    Route("/mcp", tools.call, methods=["POST"]),
    Route("/mcp", tools.leave, methods=["DELETE"]),
    WebSocketRoute("/mcp", tools.converse),
    Route("/list_environments", tasks.names),
    Route("/{env_name}/splits", tasks.splits),
    Route("/{env_name}/{task_method}", tasks.task, methods=["POST"]),
)


def create_app(
    hub: Hub,
    *,
    default: str | None,
    host: str = "127.0.0.1",
    production: bool = False,
    tokens: Tokens | None = None,
    any_host: bool = False,
    grace_s: float = GRACE_S,
) -> Starlette:
    """Return the application that serves `hub`.

    Args:
        hub: running; the caller closes it.
        default: the environment at the root; None for none.
        host: name or address that the door is bound to.
        production: hide reset, step and state over HTTP for every environment, and not only
            for those whose author wants it.
        tokens: one of which a client must bear; None for none.
        any_host: clients may know this machine by any name.
        grace_s: how long a session of the native protocol is kept without a connection.
    """
    app = Starlette()
    named = Forwarding(Router(OPENENV))
    routes = (*operations.ROUTES, Mount(f"/envs/{NAME}", named), Mount("", named))
    install(app, routes, default=default, host=host, production=production, any_host=any_host)
    connect(app, hub, grace_s)
    if tokens is not None:
        for holder in tokens.holders:
            holder.on_refused = hub.counters.refuse
        app.add_middleware(Bearer, tokens=tokens)  # before all others
    return app


def install(
    app: Starlette,
    routes: Iterable[BaseRoute] = (Mount(f"/envs/{NAME}", routes=OPENENV), *OPENENV),
    *,
    default: str | None,
    host: str = "127.0.0.1",
    production: bool = False,
    any_host: bool = False,
) -> None:
    """Add the routes, and what wraps them, to an application.

    Args:
        app: not started yet.
        routes: those of the environments.
        default: the environment at the root; None for none.
        host: name or address that the door is bound to.
        production: hide reset, step and state over HTTP.
        any_host: clients may know this machine by any name.
    """
    ours = (
        Route("/envs", http.environments),
        Route(f"/envs/{NAME}", http.environment),
        WebSocketRoute("/v1/connect", native.connect),
    )
    app.router.routes += [*ours, *routes]
    app.add_middleware(SameOrigin, host=host, any_host=any_host)
    for kind, answer in (
        (HTTPException, _refused),
        (InvalidBody, _unprocessable),
        (ClientDisconnect, _unheard),
    ):
        app.add_exception_handler(kind, answer)
    app.state.default = default
    app.state.production = production


def connect(app: Starlette, hub: Hub, grace_s: float = GRACE_S) -> None:
    """Say whose sessions the routes are about, before the first request.

    From here on a name may be a stranger's: of Gymnasium's ids only those are served that
    somebody here has named.
    """
    hub.catalog.close()
    app.state.hub = hub
    app.state.sessions = KeptSessions(hub)
    app.state.lanes = Lanes(hub, grace_s)
    hub.every_look(app.state.sessions.forget_idle)
    app.state.applications = Applications(hub)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


async def _unprocessable(request: Request, error: Exception) -> Response:
    from envhub.door.envelopes import dumped

    assert isinstance(error, InvalidBody)
    text = f'{{"detail":{dumped(error.errors)}}}'
    return Response(text, 422, media_type="application/json")


async def _unheard(request: Request, error: Exception) -> Response:
    return Response(status_code=http.CLIENT_GONE)
