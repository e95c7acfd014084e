"""OpenEnv's task API: what an environment can pose, asked of a fresh session each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from envhub.door import bodies, http
from envhub.door.address import manifest_of
from envhub.door.splice import json_value
from envhub.errors import InvalidOption, UsageError

if TYPE_CHECKING:
    from envhub.hub.session import Session

# the path: the environment's method, and the key of its answer
_METHODS = {
    "tasks": ("list_tasks", "tasks"),
    "num_tasks": ("num_tasks", "num_tasks"),
    "task": ("get_task", "task"),
    "task_range": ("get_task_range", "tasks"),
}


async def names(request: Request) -> Response:
    """Return the environment's name, in a list."""
    return JSONResponse([manifest_of(request).name])


async def splits(request: Request) -> Response:
    """Return the environment's splits."""
    return await _ask(request, _named(request), "list_splits", {}, lambda value: value)


async def task(request: Request) -> Response:
    """Return tasks, how many there are, or one."""
    path = request.path_params["task_method"]
    if path not in _METHODS:
        raise HTTPException(404, "Not Found")
    name = _named(request)
    method, key = _METHODS[path]
    params = bodies.task_arguments(path, request.headers, await bodies.read(request))
    more = f',"env_name":{json.dumps(name)}' if path == "tasks" else ""
    return await _ask(request, name, method, params, lambda v: f'{{"{key}":{v}{more}}}')


async def _ask(
    request: Request,
    name: str,
    method: str,
    params: dict[str, Any],
    around: Callable[[str], str],
) -> Response:
    async def answer(session: Session) -> Response:
        try:
            value = await session.invoke_raw(method, json.dumps(params).encode())
        except InvalidOption as error:
            return JSONResponse({"detail": str(error)}, 400)
        except UsageError as error:
            return JSONResponse({"detail": str(error)}, 501)
        with session.held_to_protocol():
            return Response(around(json_value(value)), media_type="application/json")

    return await http.in_fresh_session(request, name, answer)


def _named(request: Request) -> str:
    """Return the environment's name, which the path must have, too."""
    asked, there = request.path_params["env_name"], manifest_of(request).name
    if asked.lower() != there:
        raise HTTPException(404, f"unknown environment {asked!r}")
    return there
