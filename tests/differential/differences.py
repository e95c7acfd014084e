"""Where envhub answers otherwise than OpenEnv 0.10's server, on purpose, and why.

A difference that is in no row fails the suite. So does a row that has not occurred in an
environment that it names and that was played: the table cannot outlive what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EVERY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """A pair of replies that may differ.

    Args:
        name: short.
        why: we answer so.
        where: matches the label of the move: conversation, number, request.
        stock: matches the whole reply of OpenEnv's server.
        ours: matches the whole of ours.
        holds: what must be true of the two replies besides.
        folders: of the environments where it occurs; EVERY for each that is played.
        but: of environments where it does not.
    """

    name: str
    why: str
    where: str
    stock: str
    ours: str
    holds: Callable[[str, str], bool] = lambda stock, ours: True
    folders: frozenset[str] = EVERY
    but: frozenset[str] = frozenset()

    def is_of(self, folder: str) -> bool:
        """Whether it occurs in the environment of this folder."""
        return folder not in self.but and (self.folders is EVERY or folder in self.folders)

    def allows(self, label: str, stock: str, ours: str) -> bool:
        """Whether these two replies differ as it says."""
        return bool(
            re.search(self.where, label)
            and re.fullmatch(self.stock, stock, re.DOTALL)
            and re.fullmatch(self.ours, ours, re.DOTALL)
            and self.holds(stock, ours)
        )


def _is_the_same_json(stock: str, ours: str) -> bool:
    """Whether they differ in white space, and in how a character is escaped, at most."""
    return json.dumps(json.loads(stock)) == json.dumps(json.loads(ours))


def _says_more(stock: str, ours: str) -> bool:
    """Whether our object begins with what stock's holds, and goes on."""
    theirs, mine = _body(stock), _body(ours)
    return list(theirs.items()) == list(mine.items())[: len(theirs)] and len(mine) > len(theirs)


def _has_the_same_routes(stock: str, ours: str) -> bool:
    """Whether ours describes no route that stock has not; ours has one for the tasks' four."""
    return set(_body(ours)["paths"]) - {"/{env_name}/{task_method}"} <= set(
        _body(stock)["paths"]
    )


def _counts_alone(stock: str, ours: str) -> bool:
    """Whether they differ in the number alone, and ours is smaller: nobody else's is in it."""
    theirs, mine = (int(re.findall(_STEPS, text)[0]) for text in (stock, ours))
    return mine < theirs and re.sub(_STEPS, "", stock) == re.sub(_STEPS, "", ours)


def _body(reply: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reply.removeprefix(_OK))
    return found


_STEPS = r'"steps":(\d+)'
_OK = "200 application/json "

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        name="sessions at once",
        why="a session is a process of its own, so that a class need not allow more than one",
        where=r"^two at once 03: b ",
        stock=r'.*"code":"CAPACITY_REACHED","active_sessions":1,"max_sessions":1}}',
        ours=r'{"type":"state","data":{.*}}',
        but=frozenset(  # they declare that a class may have several
            {
                "whole_env",
                "coding_tools_env",
                "echo_env",
                "julia_env",
                "jupyter_env",
                "opencode_env",
                "reasoning_gym_env",
                "repl_env",
                "terminus_env",
            }
        ),
    ),
    Difference(
        name="a variable of the module",
        why="each session is forked from a process that has stepped nothing; upstream's share"
        " one, and with it what the module remembers",
        where="step",
        stock=r'.*"steps":\d+.*',
        ours=r'.*"steps":\d+.*',
        holds=_counts_alone,
        folders=frozenset({"accident_env"}),
    ),
    Difference(
        name="MCP itself",
        why="at POST /mcp a client that begins with `initialize` is answered in MCP, which"
        " upstream does not speak",
        where=r"^tools by HTTP \d+: POST /mcp .*initialize",
        stock=_OK + r'.*"message":"Method not found: initialize","data":null}}',
        ours=_OK + r'{"jsonrpc":"2\.0","id":"i","result":{"protocolVersion":.*}}',
    ),
    Difference(
        name="the end of MCP itself",
        why="DELETE /mcp closes a session of MCP; upstream has none",
        where=r"^tools by HTTP \d+: DELETE /mcp",
        stock=r'405 application/json {"detail":"Method Not Allowed"}',
        ours=r'404 application/json {"jsonrpc":"2.0",.*"message":"no such session"}}',
    ),
    Difference(
        name="a session by its id",
        why="a reset, step or state over HTTP may name a session by `?session_id=`, which"
        " upstream does not look at",
        where=r"^reset by HTTP \d+: POST /reset\?session_id=",
        stock=r"200 .*|500 .*",
        ours=r'404 application/json {"detail":"Unknown session_id: nobody"}',
        but=frozenset({"whole_env"}),  # in production there is no /reset
    ),
    Difference(
        name="white space",
        why="on the WebSocket /mcp upstream writes JSON with spaces; ours has none anywhere,"
        " for a reply is passed on as the bytes that the session wrote",
        where=r"^(ending tools|tools by WebSocket) ",
        stock=r'{"jsonrpc": "2\.0", "id": .*}',
        ours=r'{"jsonrpc":"2\.0","id":.*}',
        holds=_is_the_same_json,
    ),
    Difference(
        name="OpenAPI",
        why="the document names the same routes in words of ours",
        where=r" GET /openapi\.json",
        stock=_OK + r'{"openapi":.*}',
        ours=_OK + r'{"openapi":.*}',
        holds=_has_the_same_routes,
    ),
    Difference(
        name="NaN quoted back",
        why="upstream cannot write the NaN of a bad request into its refusal, and fails; ours"
        " writes null, as everywhere",
        where=r"^step by HTTP \d+: POST /step {\"action\":NaN}",
        stock=r"500 text/plain; charset=utf-8 Internal Server Error",
        ours=r'422 application/json {"detail":\[{"type":"dict_type",.*"input":null}\]}',
        but=frozenset({"whole_env"}),  # in production there is no /step
    ),
    Difference(
        name="fields of the state",
        why="GET /state says what a `state` frame says; upstream leaves out what the author's"
        " class adds, unless the app was given that class",
        where=r"^described \d+: GET /state ",
        stock=_OK + r"{.*}",
        ours=_OK + r"{.*}",
        holds=_says_more,
        but=frozenset(
            {
                "accident_env",
                "tools_env",
                "whole_env",
                "echo_env",
                "grid_world_env",
                "reasoning_gym_env",
                "repl_env",
                "snake_env",
                "websearch_env",
            }
        ),
    ),
    Difference(
        name="a hidden route, by another method",
        why="in production upstream has no /reset, /step and /state; here they are there, and"
        " say 404 to the method that they would have had",
        where=r"^described \d+: (GET /(reset|step)|POST /state|DELETE /reset|PUT /step) ",
        stock=r'404 application/json {"detail":"Not Found"}',
        ours=r'405 application/json {"detail":"Method Not Allowed"}',
        folders=frozenset({"whole_env"}),
    ),
)
