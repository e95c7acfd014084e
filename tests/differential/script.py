"""The script: conversations that both servers are made to have, whatever the environment.

Valid requests, requests that only look valid, and every kind of broken one. Each breaks at
most the connection that it is on; what may be sent after it is sent.
"""

from __future__ import annotations

import json
from typing import Any

from tests.differential.plays import Play
from tests.differential.replay import SESSION, Ask, Move, Open, Say, Settle, Talk

_CLOSE = '{"type":"close"}'
_STATE = '{"type":"state"}'
_ENDING = ("[]", "3", '"x"', "null", b"{}", b"\xff")  # frames that end a connection


def talks(play: Play, name: str) -> list[Talk]:
    """Return the conversations with an environment.

    Args:
        play: what is its own in them.
        name: by which its author's app calls it.
    """
    return [
        Talk("episode", _episode(play)),
        Talk("refusals", _refusals(play)),
        *_endings(),
        Talk("two at once", _two_at_once(play)),
        Talk("tools in a frame", _tools_in_a_frame(play)),
        Talk("tools by WebSocket", _tools_by_websocket(play)),
        Talk("tools by HTTP", _tools_by_http(play)),
        Talk("a session by HTTP", _a_session_by_http(play)),
        Talk("described", _described()),
        Talk("reset by HTTP", _reset_by_http(play)),
        Talk("step by HTTP", _step_by_http(play)),
        Talk("tasks", _tasks(name)),
    ]


def _frame(kind: str, data: Any, **more: Any) -> str:
    return json.dumps({"type": kind, "data": data, **more})


def _episode(play: Play) -> tuple[Move, ...]:
    """One WebSocket from its first frame to `close`: an agent that does what it should."""
    begin = play.resets[-1]
    return (
        Open(),
        Say(_STATE),
        Say(_frame("step", play.steps[0])),  # of an environment that was never reset
        Say('{"type":"reset"}'),
        *(Say(_frame("reset", options)) for options in play.resets),
        Say(_STATE),
        Say(_frame("reset", {**begin, "seed": 7, "episode_id": "e-7", "nobody_asked": [1]})),
        *(Say(_frame("step", action)) for action in play.steps),
        Say(_STATE),
        Say(_frame("step", play.steps[-1])),  # after the end
        Say(_frame("reset", {**begin, "seed": 7})),
        Say(_frame("step", play.steps[0])),
        Say(_CLOSE),
        Settle(),
    )


def _refusals(play: Play) -> tuple[Move, ...]:
    """A connection that survives all that is wrong with a frame but its being an object."""
    step = play.steps[0]
    wrong: list[Any] = [{}, {"nobody_asked": 1}, {**step, "nobody_asked": {"a": None}}]
    no_values: list[Any] = [[], {"a": 1}, None, True]
    wrong += [{**step, key: value} for key in step for value in no_values]
    wrong += play.bad
    frames = [
        *(_frame("step", action) for action in wrong),
        '{"type":"step"}',
        '{"type":"step","data":null}',
        '{"type":"step","data":[1]}',
        '{"type":"step","data":"x"}',
        _frame("step", step, timeout_s=3, request_id="r"),
        '{"type":"reset","data":null}',
        '{"type":"reset","data":[]}',
        '{"type":"reset","data":{},"extra":1}',
        '{"type":"reset","data":{"seed":-1}}',
        '{"type":"reset","data":{"episode_id":"e","nobody_asked":NaN}}',
        '{"type":"state","data":{}}',
        '{"type":"state","extra":null}',
        '{"type":"close","data":{}}',
        '{"type":"mcp"}',
        '{"type":"mcp","data":[]}',
        '{"type":"bogus"}',
        '{"type":"Reset"}',
        '{"type":""}',
        '{"type":"h\u00e9 \U0001f600"}',
        "{}",
        '{"data":{}}',
        "{",
        "",
        " ",
        "{bad",
        '{"type":"state",}',
        '{"type":"state"} x',
        '{"type":"state"}\n',
        '{"type":"bogus","type":"state"}',
        _STATE,
    ]
    return (Open(), Say('{"type":"reset"}'), *map(Say, frames), Say(_CLOSE), Settle())


def _endings() -> list[Talk]:
    frames: list[str | bytes] = [*_ENDING]
    talks = [
        Talk(f"ending {n}", (Open(), Say(frame), Say(_STATE), Settle()))
        for n, frame in enumerate(frames)
    ]
    talks += [
        Talk(f"ending tools {n}", (Open("/mcp"), Say(frame), Say("{}"), Settle()))
        for n, frame in enumerate(["[]", "null"])
    ]
    unknown = (Open("/ws?session_id=nobody"), Say(_STATE), Say(_STATE), Settle())
    return [*talks, Talk("unknown session", unknown)]


def _two_at_once(play: Play) -> tuple[Move, ...]:
    step = _frame("step", play.steps[0])
    return (
        Open(name="a"),
        Say('{"type":"reset"}', "a"),
        Open(name="b"),
        Say(_STATE, "b"),
        Say(_CLOSE, "b"),
        Say(step, "a"),
        Say(_CLOSE, "a"),
        Settle(),
    )


def _rpc(method: Any, request_id: Any = 1, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": request_id})


def _requests(play: Play) -> list[str]:
    """JSON-RPC requests that may come by any way."""
    return [
        _rpc("tools/list"),
        *(_rpc("tools/call", "c", name=name, arguments=given) for name, given in play.tools),
        _rpc("tools/call", None),
        _rpc("tools/call", name="nobody_knows_it", arguments={}),
        _rpc("tools/call", name="nobody_knows_it"),
        _rpc("initialize", "i"),
        _rpc("nothing"),
        _rpc("openenv/session/close"),
        _rpc("openenv/session/close", session_id="nobody"),
        '{"jsonrpc":"2.0","method":"tools/list"}',
        '{"jsonrpc":"1.0","method":"tools/list","id":1}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","method":"tools/list","params":[],"id":1}',
        '{"jsonrpc":"2.0","method":"tools/list","params":{},"id":[],"more":1}',
        "{}",
    ]


def _tools_in_a_frame(play: Play) -> tuple[Move, ...]:
    requests = [json.loads(text) for text in _requests(play)]
    created = json.loads(_rpc("openenv/session/create"))
    closing = json.loads(_rpc("openenv/session/close", session_id=SESSION))
    return (
        Open(),
        *(Say(_frame("mcp", request)) for request in [*requests, created, closing]),
        Say('{"type":"reset"}'),
        *(Say(_frame("mcp", request)) for request in requests[:3]),
        Say(_STATE),
        Say(_CLOSE),
        Settle(),
    )


def _tools_by_websocket(play: Play) -> tuple[Move, ...]:
    broken = ["{", "", " "]
    requests = [*_requests(play), *broken, _rpc("openenv/session/create"), _rpc("tools/list")]
    return (Open("/mcp"), *map(Say, requests), Settle())


def _tools_by_http(play: Play) -> tuple[Move, ...]:
    bodies = [*_requests(play), "{", "", "[]", "null", "3", '"x"']
    bodies += [_rpc("tools/list", session_id="nobody")]
    return (
        *(Ask("POST", "/mcp", body) for body in bodies),
        Ask("POST", "/mcp", _rpc("tools/list"), None),
        Ask("GET", "/mcp"),
        Ask("DELETE", "/mcp", None, None),
    )


def _a_session_by_http(play: Play) -> tuple[Move, ...]:
    """What OpenEnv's tool client does: a session by HTTP, and a WebSocket attached to it."""
    calls = [
        Ask("POST", "/mcp", _rpc("tools/call", name=name, arguments=given, session_id=SESSION))
        for name, given in play.tools[:2]
    ]
    listed = Ask("POST", "/mcp", _rpc("tools/list", session_id=SESSION))
    close = Ask("POST", "/mcp", _rpc("openenv/session/close", session_id=SESSION))
    return (
        Ask("POST", "/mcp", _rpc("openenv/session/create")),
        listed,
        Open(f"/ws?session_id={SESSION}"),
        Say('{"type":"reset"}'),
        *calls,
        Say(_frame("step", play.steps[0])),
        Say(_STATE),
        Open(f"/ws?session_id={SESSION}", "b"),
        Say(_STATE, "b"),
        close,
        Say(_STATE),
        Say(_CLOSE),
        Settle(),
        Ask("POST", "/mcp", _rpc("openenv/session/create")),
        close,
        close,
        listed,
    )


def _described() -> tuple[Move, ...]:
    paths = ["/health", "/metadata", "/schema", "/state", "/list_environments", "/nothing"]
    return (
        *(Ask("GET", path, None, None) for path in paths),
        *(Ask("GET", path, None, None) for path in ("/reset", "/step", "/ws", "/openapi.json")),
        *(Ask("POST", path, "{}") for path in ("/health", "/state", "/schema", "/metadata")),
        Ask("DELETE", "/reset", None, None),
        Ask("PUT", "/step", "{}"),
    )


def _reset_by_http(play: Play) -> tuple[Move, ...]:
    bodies = [
        *(json.dumps(options) for options in play.resets),
        json.dumps({**play.resets[-1], "seed": 7, "episode_id": "e", "nobody_asked": [1]}),
        "{}", "", " ", "{", "[]", "null", "3", '"x"', '{"seed":-1}', '{"seed":null}',
        '{"seed":"5"}', '{"seed":1.0}', '{"seed":1.5}', '{"seed":"x"}', '{"episode_id":5}',
        json.dumps({"episode_id": "e" * 256}), '{"nobody_asked":NaN}',
    ]  # fmt: skip
    return (
        *(Ask("POST", "/reset", body) for body in bodies),
        Ask("POST", "/reset", None, None),
        Ask("POST", "/reset", "{}", None),
        Ask("POST", "/reset", "{}", "text/plain"),
        Ask("POST", "/reset", "{}", "application/x+json"),
        Ask("POST", "/reset", '{"session_id":"nobody"}'),
        Ask("POST", "/reset?session_id=nobody", "{}"),
    )


def _step_by_http(play: Play) -> tuple[Move, ...]:
    action = play.steps[0]
    bodies: list[Any] = [
        *({"action": each} for each in (*play.steps[:3], *play.bad)),
        {"action": {}}, {"action": {**action, "nobody_asked": 1}}, {}, [], None,
        {"action": None}, {"action": [1]}, {"action": "x"},
        {"action": action, "timeout_s": 0}, {"action": action, "timeout_s": 2.5},
        {"action": action, "timeout_s": "x"}, {"action": action, "request_id": 5},
        {"action": action, "request_id": "r" * 256}, {"action": action, "request_id": "r"},
        {"action": action, "nobody_asked": {"a": 1}},
    ]  # fmt: skip
    return (
        *(Ask("POST", "/step", json.dumps(body)) for body in bodies),
        *(Ask("POST", "/step", text) for text in ("", "{", '{"action":NaN}')),
        Ask("POST", "/step", None, None),
        Ask("POST", "/step", json.dumps({"action": action}), "text/plain"),
    )


def _tasks(name: str) -> tuple[Move, ...]:
    split = {"split": "train"}
    bodies: list[tuple[str, Any]] = [
        ("tasks", split),
        ("num_tasks", split),
        ("task", {**split, "index": 1}),
        ("task", {**split, "index": 99}),
        ("task_range", split),
        ("task_range", {**split, "start": 1, "stop": 2}),
        ("tasks", {}),
        ("tasks", {**split, "nobody_asked": 1}),
        ("task", split),
        ("task", {**split, "index": "x"}),
        ("nothing", split),
    ]
    return (
        Ask("GET", f"/{name}/splits", None, None),
        Ask("GET", f"/{name.upper()}/splits", None, None),
        Ask("GET", "/nobody/splits", None, None),
        *(Ask("POST", f"/{name}/{path}", json.dumps(body)) for path, body in bodies),
        Ask("POST", "/nobody/tasks", json.dumps(split)),
        Ask("POST", f"/{name}/tasks", "{"),
    )
