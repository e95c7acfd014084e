"""The OpenAPI document of the OpenEnv routes, made by hand and held true by a test.

`openenv validate --url` reads it: `info.version`, and the three paths of the simulation.
"""

from __future__ import annotations

from typing import Any

_OBJECT = {"type": "object"}
_SIMULATION = ("/reset", "/step", "/state")
_RESULT = {
    "type": "object",
    "required": ["observation", "reward", "done", "metadata"],
    "properties": {
        "observation": _OBJECT,
        "reward": {"type": ["number", "null"]},
        "done": {"type": "boolean"},
        "metadata": {"type": ["object", "null"]},
    },
}
_RESET = {
    "type": "object",
    "properties": {
        "seed": {"type": ["integer", "null"], "minimum": 0},
        "episode_id": {"type": ["string", "null"], "maxLength": 255},
    },
    "additionalProperties": True,
}
_STEP = {
    "type": "object",
    "required": ["action"],
    "properties": {
        "action": _OBJECT,
        "timeout_s": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "request_id": {"type": ["string", "null"], "maxLength": 255},
    },
    "additionalProperties": True,
}


_RPC = {
    "type": "object",
    "required": ["jsonrpc", "method"],
    "properties": {
        "jsonrpc": {"const": "2.0"},
        "method": {"type": "string"},
        "params": _OBJECT,
        "id": {"type": ["string", "integer", "null"]},
    },
    "additionalProperties": False,
}
_TASK = {"type": "object", "required": ["split"], "properties": {"split": {"type": "string"}}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _operation(
    summary: str, reply: dict[str, Any], body: dict[str, Any] | None = None, **of_body: bool
) -> dict[str, Any]:
    responses = {"200": {"description": "OK", **_json(reply)}}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        responses["422"] = {"description": "The body is not valid", **_json(_OBJECT)}
        operation["requestBody"] = {**of_body, **_json(body)}
    return operation


def document(prefix: str, *, production: bool = False) -> dict[str, Any]:
    """Return the document for the routes under `prefix`, "" for the root."""
    found = _document(prefix)
    for path in _SIMULATION if production else ():
        del found["paths"][path]
    return found


def _document(prefix: str) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenEnv Environment HTTP API",
            "description": "Reset, step and state use a fresh session for each request.",
            "version": "1.0.0",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            "/health": {"get": _operation("Whether the server answers", _OBJECT)},
            "/metadata": {"get": _operation("Name and description", _OBJECT)},
            "/schema": {"get": _operation("JSON Schemas of its types", _OBJECT)},
            "/state": {"get": _operation("State of a fresh environment", _OBJECT)},
            "/reset": {"post": _operation("Begin an episode", _RESULT, _RESET)},
            "/step": {"post": _operation("Take one action", _RESULT, _STEP, required=True)},
            "/mcp": {
                "post": _operation(
                    "List and call tools (MCP, or OpenEnv's own)", _OBJECT, _RPC
                ),
                "delete": {
                    "summary": "End an MCP session",
                    "responses": {"204": {"description": "It is closed"}},
                },
            },
            "/list_environments": {"get": _operation("Its name, in a list", {"type": "array"})},
            "/{env_name}/splits": {"get": _operation("Its splits", {"type": "array"})},
            "/{env_name}/{task_method}": {
                "post": _operation("Tasks, num_tasks, task or task_range", _OBJECT, _TASK)
            },
        },
    }
