"""OpenEnv's task API: what an environment can pose, asked of a fresh session each time."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from envhub.door import bodies, http
from envhub.door.address import hub_of, manifest_of
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
    """Return what the environment's app calls itself, in a list."""
    manifest = manifest_of(request)

    async def describe() -> Response:
        described = await hub_of(request).describe(manifest.name)
        return JSONResponse([described.app_name or manifest.name])

    return await http.attend(request, describe)


async def splits(request: Request) -> Response:
    """Return the environment's splits."""
    return await _ask(request, "list_splits", {}, lambda value, _: value)


async def task(request: Request) -> Response:
    """Return tasks, how many there are, or one."""
    path = request.path_params["task_method"]
    if path not in _METHODS:
        raise HTTPException(404, "Not Found")
    method, key = _METHODS[path]
    params = bodies.task_arguments(path, request.headers, await bodies.read(request))

    def around(value: str, name: str) -> str:
        more = f',"env_name":{json.dumps(name)}' if path == "tasks" else ""
        return f'{{"{key}":{value}{more}}}'

    return await _ask(request, method, params, around)


async def _ask(
    request: Request,
    method: str,
    params: dict[str, Any],
    around: Callable[[str, str], str],
) -> Response:
    """Return what a method of the environment returns, put into its frame by `around`."""
    manifest = manifest_of(request)

    async def answer(session: Session) -> Response:
        asked = request.path_params["env_name"]
        name = (await session.describe()).app_name or manifest.name
        if asked.lower() != name.lower():
            detail = f"unknown environment {asked!r}"
            return JSONResponse({"detail": detail}, 404)
        try:
            value = await session.invoke_raw(method, json.dumps(params).encode())
        except InvalidOption as error:
            return JSONResponse({"detail": str(error)}, 400)
        except UsageError as error:
            return JSONResponse({"detail": str(error)}, 501)
        with session.held_to_protocol():
            return Response(around(json_value(value), name), media_type="application/json")

    return await http.in_fresh_session(request, manifest.name, answer)
