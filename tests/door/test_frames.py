"""`envhub.door.frames`: what upstream would say, byte for byte."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.version import version_short

from envhub.door import frames
from envhub.door.frames import Answer, Request
from envhub.errors import (
    AgentSandboxFailed,
    CapacityError,
    DeadlineExceeded,
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    LimitExceeded,
    RemoteProtocolError,
    SessionClosed,
    WorkerLost,
    WorkerStartFailed,
)
from envhub_sandbox import SandboxError

# Recorded from openenv 0.10.0 with pydantic 2.14, whose version stands in its links.
INVALID = '{"type":"error","data":{"message":"Invalid message","code":"VALIDATION_ERROR",'
LINK = f"https://errors.pydantic.dev/{version_short()}/v/"
UPSTREAM = {
    "{bad": (
        '{"type":"error","data":{"message":"Invalid JSON: Expecting property name enclosed in'
        ' double quotes: line 1 column 2 (char 1)","code":"INVALID_JSON"}}'
    ),
    "": (
        '{"type":"error","data":{"message":"Invalid JSON: Expecting value: line 1 column 1'
        ' (char 0)","code":"INVALID_JSON"}}'
    ),
    '{"type":"reset"} x': (
        '{"type":"error","data":{"message":"Invalid JSON: Extra data: line 1 column 18'
        ' (char 17)","code":"INVALID_JSON"}}'
    ),
    '{"type":"step","data":{"op":"a\x01"}}': (
        '{"type":"error","data":{"message":"Invalid JSON: Invalid control character at: line 1'
        ' column 31 (char 30)","code":"INVALID_JSON"}}'
    ),
    '\ufeff{"type":"reset"}': (
        '{"type":"error","data":{"message":"Invalid JSON: Unexpected UTF-8 BOM (decode using'
        ' utf-8-sig): line 1 column 1 (char 0)","code":"INVALID_JSON"}}'
    ),
    '{"type":"bogus"}': (
        '{"type":"error","data":{"message":"Unknown message type: bogus",'
        '"code":"UNKNOWN_TYPE"}}'
    ),
    "{}": '{"type":"error","data":{"message":"Unknown message type: ","code":"UNKNOWN_TYPE"}}',
    '{"type":null}': (
        '{"type":"error","data":{"message":"Unknown message type: None","code":"UNKNOWN_TYPE"}}'
    ),
    '{"type":["reset"]}': (
        '{"type":"error","data":{"message":"Unknown message type: [\'reset\']",'
        '"code":"UNKNOWN_TYPE"}}'
    ),
    '{"type":"é\\u0000"}': (
        '{"type":"error","data":{"message":"Unknown message type: é\\u0000",'
        '"code":"UNKNOWN_TYPE"}}'
    ),
    '{"type": "reset", "data": null}': (
        f'{INVALID}"errors":[{{"type":"dict_type","loc":["data"],"msg":"Input should be a valid'
        f' dictionary","input":null,"url":"{LINK}dict_type"}}]}}}}'
    ),
    '{"type": "reset", "data": {}, "request_id": "r1"}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["request_id"],"msg":"Extra'
        f' inputs are not permitted","input":"r1","url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"type": "step", "data": {"op": "tag"}, "tag": "T", "timeout_s": 3}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["tag"],"msg":"Extra inputs are'
        f' not permitted","input":"T","url":"{LINK}extra_forbidden"}},'
        '{"type":"extra_forbidden","loc":["timeout_s"],"msg":"Extra inputs are not permitted",'
        f'"input":3,"url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"type": "step"}': (
        f'{INVALID}"errors":[{{"type":"missing","loc":["data"],"msg":"Field required",'
        f'"input":{{"type":"step"}},"url":"{LINK}missing"}}]}}}}'
    ),
    '{"type":"step","data":{},"extra":NaN}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["extra"],"msg":"Extra inputs are'
        f' not permitted","input":null,"url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"type": "state", "data": {}}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["data"],"msg":"Extra inputs are'
        f' not permitted","input":{{}},"url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"type":"close","data":null}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["data"],"msg":"Extra inputs are'
        f' not permitted","input":null,"url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"self":1,"type":"reset"}': (
        f'{INVALID}"errors":[{{"type":"extra_forbidden","loc":["self"],"msg":"Extra inputs are'
        f' not permitted","input":1,"url":"{LINK}extra_forbidden"}}]}}}}'
    ),
    '{"type": "mcp"}': (
        f'{INVALID}"errors":[{{"type":"missing","loc":["data"],"msg":"Field required",'
        f'"input":{{"type":"mcp"}},"url":"{LINK}missing"}}]}}}}'
    ),
}
UPSTREAM_THEN_CLOSES = {
    "[1,2]": "'list' object has no attribute 'get'",
    '"str"': "'str' object has no attribute 'get'",
    "null": "'NoneType' object has no attribute 'get'",
    "NaN": "'float' object has no attribute 'get'",
    "[" * 100_000: (
        "maximum recursion depth exceeded while decoding a JSON array from a unicode string"
    ),
    '{"type":"reset","data":{"seed":' + "1" * 5000 + "}}": (
        "Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits;"
        " use sys.set_int_max_str_digits() to increase the limit"
    ),
}


@pytest.mark.parametrize("frame", UPSTREAM)
def test_a_frame_without_a_request_is_answered_as_upstream_does(frame: str) -> None:
    assert frames.parse(frame) == Answer(UPSTREAM[frame])


@pytest.mark.parametrize("frame", UPSTREAM_THEN_CLOSES, ids=lambda frame: frame[:20])
def test_what_is_no_object_ends_the_connection_as_upstream_does(frame: str) -> None:
    answer = frames.parse(frame)

    assert isinstance(answer, Answer)
    assert answer.close_code == 1000
    assert json.loads(answer.text)["data"] == {
        "message": UPSTREAM_THEN_CLOSES[frame],
        "code": "SESSION_ERROR",
    }


def test_a_binary_frame_ends_the_connection_as_upstream_does() -> None:
    assert frames.parse(None) == Answer(
        '{"type":"error","data":{"message":"\'text\'","code":"SESSION_ERROR"}}', 1000
    )


@pytest.mark.parametrize(
    ("frame", "request_"),
    [
        ('{"type": "state"}', Request("state")),
        ('{"type":"close"}', Request("close")),
        ('{"type":"reset"}', Request("reset", b"{}")),
        ('{"data":{"seed": 4},"type":"reset"}', Request("reset", b'{"seed": 4}')),
        ('{"type":"step","data":{"op":"hé"}}', Request("step", '{"op":"hé"}'.encode())),
        ('{"type":"step","data":{"a":1},"data":{"a":2}}', Request("step", b'{"a":2}')),
        ('{"type":"state","type":"reset"}', Request("reset", b"{}")),
    ],
)
def test_a_valid_frame_keeps_the_bytes_of_its_data(frame: str, request_: Request) -> None:
    assert frames.parse(frame) == request_


def test_a_valid_frame_does_not_need_pydantic(fresh_python: Any) -> None:
    fresh_python("""
        import sys
        from envhub.door import frames
        frames.parse('{"type":"step","data":{"op":"hi"}}')
        assert "pydantic" not in sys.modules
    """)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", '"\\ud800"'])
def test_python_s_dialect_of_json_reaches_the_worker(value: str) -> None:
    request = frames.parse(f'{{"type":"step","data":{{"x":{value}}}}}')

    assert isinstance(request, Request)
    assert repr(json.loads(request.data)) == repr({"x": json.loads(value)})


def test_a_lone_surrogate_is_quoted_back_without_breaking_the_connection() -> None:
    unknown = frames.parse('{"type":"\\ud800"}')
    extra = frames.parse('{"type":"state","extra":"\\ud800"}')

    assert isinstance(unknown, Answer)
    assert isinstance(extra, Answer)
    assert json.loads(unknown.text)["data"]["message"] == "Unknown message type: \ud800"
    assert json.loads(extra.text)["data"]["errors"][0]["input"] is None


def test_a_million_unknown_keys_are_not_a_million_errors() -> None:
    junk = {str(n): 0 for n in range(1_000_000)}

    answer = frames.parse(json.dumps({**junk, "type": "state"}))

    assert isinstance(answer, Answer)
    assert answer.text.count("Extra inputs are not permitted") == 100


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON, st.sampled_from(["reset", "step", "state", "close", "mcp", "x"]))
def test_the_fast_path_reads_what_the_standard_library_reads(data: Any, kind: str) -> None:
    frame = json.dumps({"type": kind, "data": data})

    request = frames.parse(frame)

    if isinstance(request, Request):
        assert request.verb == kind
        assert repr(json.loads(request.data)) == repr(json.loads(json.dumps(data)))
    elif kind in ("reset", "step", "mcp"):
        assert not isinstance(data, dict)


@given(st.text() | st.text(alphabet='{}[]",:\\ntyperesdata0129.NI '))
def test_any_text_is_a_request_or_an_answer(frame: str) -> None:
    found = frames.parse(frame)

    assert isinstance(found, Request) or json.loads(found.text)["type"] == "error"


# ------------------------------------------------------------------ failures


def test_the_author_s_exception_is_shown_as_upstream_shows_it() -> None:
    answer = frames.failed(EnvironmentFailed("'boom key'", traceback="secret"))

    assert answer == Answer(
        '{"type":"error","data":{"message":"\'boom key\'","code":"EXECUTION_ERROR"}}'
    )


def test_an_invalid_action_carries_pydantic_s_list() -> None:
    answer = frames.failed(InvalidAction("op: Field required", detail=b'[{"type":"missing"}]'))

    assert answer == Answer(INVALID + '"errors":[{"type":"missing"}]}}')


@pytest.mark.parametrize(
    ("failure", "cause", "close_code"),
    [
        (DeadlineExceeded("late"), "deadline_exceeded", 0),
        (LimitExceeded("big"), "limit_exceeded", 0),
        (WorkerLost("gone"), "worker_lost", 0),
        (RemoteProtocolError("junk"), "remote_protocol", 1011),
        (SessionClosed("closed"), "session_closed", 1011),
        (AgentSandboxFailed("none"), "agent_sandbox_failed", 0),
        (SandboxError("no walls"), "sandbox", 0),
    ],
)
def test_a_failure_of_the_machinery_says_its_cause(
    failure: EnvhubError | SandboxError, cause: str, close_code: int
) -> None:
    answer = frames.failed(failure)

    assert answer.close_code == close_code
    assert json.loads(answer.text)["data"] == {
        "message": str(failure),
        "code": "EXECUTION_ERROR",
        "cause": cause,
    }


def test_a_full_hub_says_so_in_upstream_s_words() -> None:
    full = CapacityError("no place within 30 s", active=3, limit=3)

    assert frames.refused(full, "echo") == Answer(
        '{"type":"error","data":{"message":"Server at capacity: 3/3 sessions active. Cannot'
        ' accept new connections.","code":"CAPACITY_REACHED","active_sessions":3,'
        '"max_sessions":3}}',
        1000,
    )


def test_an_environment_that_cannot_start_says_so_in_upstream_s_words() -> None:
    assert frames.refused(WorkerStartFailed("it ended"), "echo") == Answer(
        '{"type":"error","data":{"message":"Environment factory \'echo\' failed to create'
        ' instance. it ended","code":"FACTORY_ERROR","factory_name":"echo"}}',
        1000,
    )
