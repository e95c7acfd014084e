"""The tools of an OpenEnv environment: list them, and call one beside the episode (MCP).

An environment has them in one of two ways: a client of its own tools' server, or actions that
list and call. What is returned is what upstream's server would send.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from envhub.errors import UsageError

METHODS = ("tools/list", "tools/call")
_TYPES = "openenv.core.env_server.mcp_types"


class Tools:
    """Those of one environment.

    Args:
        environment: of theirs.
        action: its class of actions.
    """

    def __init__(self, environment: Any, action: Any) -> None:
        self._environment = environment
        self._client = getattr(environment, "mcp_client", None)
        self._steps = action.__name__ in ("ListToolsAction", "CallToolAction")
        self.there = self._client is not None or self._steps
        self._conversation: AsyncExitStack | None = None

    async def converse(self) -> None:
        """Begin the conversation with the tools' server, once; it ends with the process."""
        begin = getattr(self._environment, "mcp_session", None)
        if self._conversation is None and callable(begin):
            self._conversation = AsyncExitStack()
            await self._conversation.enter_async_context(begin())

    async def answer(
        self,
        method: str,
        params: dict[str, Any],
        step: Callable[[Any], Awaitable[Any]],
    ) -> dict[str, Any]:
        """Return the result of one of METHODS.

        Args:
            method: which.
            params: for a call: "name" and "arguments".
            step: takes an action, for environments whose tools are actions.

        Raises:
            UsageError: the call names no tool.
            Exception: the tool's own, or its server's.
        """
        name, arguments = params.get("name"), params.get("arguments", {})
        if method == "tools/call" and not name:
            raise UsageError("Missing 'name' in params")
        await self.converse()
        if self._client is not None:
            if method == "tools/list":
                return {
                    "tools": [tool.model_dump() for tool in await self._client.list_tools()]
                }
            called = _plain(await self._client.call_tool(name=name, arguments=arguments))
            return dict(called) if isinstance(called, dict) else {"value": called}
        types = importlib.import_module(_TYPES)
        if method == "tools/list":
            listed = await step(types.ListToolsAction())
            return {"tools": [tool.model_dump() for tool in listed.tools]}
        called = _plain(await step(types.CallToolAction(tool_name=name, arguments=arguments)))
        return dict(called)


def _plain(value: Any) -> Any:
    """Return a result as upstream makes it fit for JSON."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__dict__"):
        return {key: _plain(item) for key, item in vars(value).items()}
    return str(value)
