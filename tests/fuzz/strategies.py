"""How cases are made up: a valid frame first, then something is done to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import strategies as st

from envhub.wire.framing import HEADER, MAX_FRAME_BYTES
from envhub.wire.messages import (
    AgentOpened,
    Closed,
    Described,
    Failed,
    Finished,
    Invoked,
    KillAgent,
    Message,
    Observed,
    OpenAgent,
    StateRead,
    encode,
)
from tests.fuzz.cases import (
    OP,
    Call,
    Case,
    Crowd,
    Die,
    Hang,
    Mute,
    Pass,
    Program,
    Really,
    Send,
    Sleep,
    Thing,
    Thread,
    To,
    Urgent,
    Where,
)

_NUMBERS = [0, -1, 1, 127, 128, 255, 2**31, 2**32, 2**53, 2**63, 2**64 - 1]
_FLOATS = [float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 5e-324]
_CODES = ["environment_failed", "invalid_action", "worker_lost", "internal", "reset_needed",
          "invalid_option", "usage", "agent_sandbox_failed", "x" * 65, ""]  # fmt: skip
_TEXTS = ["", "a", "type", "op", "\0", "\u2028", "\x1b]0;x\x07", "é" * 40, "a" * 70_000]
_DTYPES = ["<f4", ">f8", "|u1", "|b1", "|O", "<U1", "|V0", "|S0", "<M8[0s]", "<M8[ns]",
           "i4,O", "(2,3)i4", "(99999,99999)f8", "i1," * 50, "nonsense", "", "\0", "é",
           "a4"]  # fmt: skip

ops = st.one_of(st.just(OP), st.just(OP), st.just(OP), st.sampled_from([0, 1, 2, 4, 2**53 - 1]))
_THINGS: list[Thing] = ["file", "itself", "child", "dead", "pipe"]


def _extension(code: int, data: bytes) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, data)


arrays = st.builds(
    lambda dtype, shape, data: _extension(1, msgspec.msgpack.encode([dtype, shape, data])),
    st.sampled_from(_DTYPES),
    st.lists(st.sampled_from([*_NUMBERS, 2, 3]), max_size=3),
    st.binary(max_size=24),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([*_NUMBERS, *_FLOATS]),
    st.sampled_from(_TEXTS),
    st.binary(max_size=8),
    st.builds(_extension, st.integers(-128, 127), st.binary(max_size=16)),
    arrays,
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(_TEXTS), st.integers(0, 9)), inner, max_size=4
        ),
    ),
    max_leaves=8,
)
BOMBS = [
    b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\x91" * 2000, b"\x81\xa1a" * 600,
    b"\xc1", b"\x81\xc0\xc0", b"\xc7\x0c\xff" + bytes(12), b"\xd7\xff" + b"\xff" * 8,
    b"\xdc\x10\x00" + b"\x80" * 4096,
]  # fmt: skip
native = st.one_of(
    st.builds(lambda value: msgspec.msgpack.encode({"a": value}), values),
    st.builds(msgspec.msgpack.encode, values),
    st.sampled_from(BOMBS),
    st.binary(max_size=24),
)
_JSON_TEXTS = [
    "{}", "[]", "null", '{"a":NaN}', '{"a":1e999}', '{"a":"\\ud800"}', '{"a":1,"a":2}', "{} ",
    '{}{}', '{},"type":"error"', '{}}', '{"a":1}\n\n', "\ufeff{}", '{"a":"\x01"}', '{"a":01}',
    '{"a":' + "9" * 4400 + "}", '{"a":' + "[" * 900 + "]" * 900 + "}", "",
    '{"observation":{},"reward":1e400,"done":1}', '{"observation":{},"reward":"1"}',
    '{"observation":{},"reward":true,"done":false}', '{"type":"state","data":{}}',
    '{"observation":1,"observation":{"b":2},"done":false}', "{}\x00", '{"\\u0000":"\\/"}',
    '{"a":"</script>"}', "{\"a\":'b'}", '{"a":-}', "/**/{}",
]  # fmt: skip
json_payloads = st.one_of(
    st.sampled_from(_JSON_TEXTS).map(str.encode),
    st.builds(
        lambda value: json.dumps({"a": value}).encode(),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.sampled_from(_FLOATS), st.text(max_size=6)),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
            max_leaves=6,
        ),
    ),
    st.just(b'{"a":"\xff"}'),
)


@st.composite
def mangled(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Bytes to which one or two things were done."""
    data = bytearray(draw(source))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "remove", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=4))
            case "remove":
                del data[at : at + draw(st.integers(1, 4))]
            case _:
                data += data[at:]
    return bytes(data)


def replies(payloads: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Messages that the decoder takes, each of its kinds."""
    texts = st.sampled_from([text for text in _TEXTS if len(text) < 100])
    observed: Callable[..., Message] = Observed
    kinds: st.SearchStrategy[Message] = st.one_of(
        st.builds(
            observed, ops, payloads, st.none() | st.sampled_from(_FLOATS),
            st.booleans(), st.booleans(), native,
        ),
        st.builds(observed, st.just(OP), payloads),
        st.builds(StateRead, ops, payloads),
        st.builds(Failed, ops, st.sampled_from(_CODES), texts, texts, payloads),
        st.builds(
            Described, ops, texts, texts, payloads, payloads, payloads,
            st.none() | st.just(("seed", "")),
        ),
        st.builds(Closed, ops),
        st.builds(Finished, ops),
        st.builds(Invoked, ops, payloads),
    )  # fmt: skip
    return kinds.map(encode)


_FIELDS = st.sampled_from(
    ["type", "op", "payload", "reward", "terminated", "truncated", "metadata", "code", "x"]
)
_KINDS = [
    "observed",
    "stateread",
    "described",
    "closed",
    "failed",
    "finished",
    "invoked",
    "step",
    "Observed",
    "",
]
loose = st.builds(
    lambda more, kind, op: msgspec.msgpack.encode({"type": kind, "op": op, **more}),
    st.dictionaries(_FIELDS, leaves, max_size=5),
    st.sampled_from(_KINDS),
    ops,
)


@st.composite
def framed(draw: st.DrawFn, bodies: st.SearchStrategy[bytes]) -> bytes:
    """A body behind a header that most often is right."""
    body = draw(bodies)
    lie = draw(st.sampled_from([0, 0, 0, 0, 0, 1, -1, -len(body), MAX_FRAME_BYTES, 2**32 - 1]))
    return HEADER.pack(min(max(len(body) + lie, 0), 2**32 - 1)) + body


def _some(things: list[Thing]) -> st.SearchStrategy[tuple[Thing, ...]]:
    return st.lists(st.sampled_from(things), min_size=1, max_size=4).map(lambda t: tuple(t))


def _send(data: bytes, to: To = "hub", chop: int = 0) -> Send:
    return Send(to=to, hex=data.hex(), chop=chop, pause_s=0.0005 if chop else 0.0)


_BROKER = st.one_of(
    st.builds(OpenAgent, st.integers(0, 3)).map(encode),
    st.builds(KillAgent, st.integers(0, 3)).map(encode),
    st.builds(AgentOpened, st.integers(0, 3)).map(encode),
    st.binary(max_size=20),
    st.just(bytes(20_000)),
)
ENDS: st.SearchStrategy[Program] = st.one_of(
    st.builds(Die, st.sampled_from(["exit", "crash"]), st.integers(0, 3)),
    st.builds(Hang, st.sampled_from(["hub", "output", "broker"]), st.sampled_from(["close"])),
    st.builds(Hang, st.just("hub"), st.just("shut")),
    st.just(Crowd(count=2)),
)


def instructions(frames: st.SearchStrategy[bytes]) -> st.SearchStrategy[Program]:
    """Instructions of which most send a frame to the hub."""
    sends = st.builds(_send, frames)
    passed = _some(_THINGS)
    return st.one_of(
        sends,
        sends,
        sends,
        st.builds(_send, frames.filter(lambda d: len(d) < 200), chop=st.integers(1, 3)),
        st.builds(lambda t, d: Pass(things=t, hex=d.hex()), passed, frames),
        st.builds(_send, _BROKER, to=st.just("broker")),
        st.builds(lambda n: Send(to="output", hex="ff00", times=n), st.integers(1, 9000)),
        st.just(Urgent()),
        ENDS,
        st.builds(lambda d: Thread(program=(_send(d),)), frames),
    )


_CALLS: dict[Where, list[Call]] = {
    "session": ["step", "step", "step", "reset", "state", "describe", "close"],
    "make": ["step", "step", "reset", "state", "close"],
    "websocket": ["step", "step", "reset", "state"],
    "http": ["step"],
}


@st.composite
def sessions(draw: st.DrawFn) -> Case:
    """An attack by a session process."""
    where = draw(st.sampled_from(list(_CALLS)))
    payloads = json_payloads if where in ("websocket", "http") else native
    bodies = st.one_of(replies(payloads), replies(payloads), mangled(replies(payloads)), loose)
    if where == "http":
        bodies = bodies.map(lambda body: body.replace(b"\xa2op\x03", b"\xa2op\x01"))
    frames = st.one_of(framed(bodies), framed(bodies), mangled(framed(bodies)))
    program = draw(st.lists(instructions(frames), min_size=1, max_size=3))
    program += draw(st.sampled_from([[], [Mute()], [Mute()], [Die()]]))
    call = draw(st.sampled_from(_CALLS[where]))
    return Case("made up", where, call, tuple(program), hurried=True)


# ---------------------------------------------------------------- zygotes


_PACKETS: list[dict[str, Any]] = [
    {"nests": True}, {"ready": {}}, {"ready": {"title": "x"}}, {"failed": {}},
    {"failed": {"layer": "seccomp", "what": "no", "errno": 2**40}},
    {"failed": {"message": "x", "traceback": "y" * 9000}}, {"failed": {"errno": None}},
    {"refused": 0, "why": "z" * 9000}, {"ended": 0}, {"ended": 1, "status": 9},
    {"ended": 0, "status": 2**62, "cpu_s": -1e300, "peak_bytes": -1}, {"ended": 2**53 - 1},
    {"forked": 0}, {"forked": 1}, {"forked": 2**53}, {"forked": -1}, {"fork": 0}, {},
    {"ready": {"a": 1}}, {"nests": 1}, {"why": "x"}, {"forked": True}, {"forked": 0.0},
]  # fmt: skip
packets = st.one_of(
    st.sampled_from(_PACKETS).map(lambda fields: json.dumps(fields).encode()),
    mangled(st.sampled_from(_PACKETS).map(lambda fields: json.dumps(fields).encode())),
    st.sampled_from([b'{"forked":$N}', b'{"refused":$N}', b'{"ended":$N,"status":0}']),
    st.sampled_from([b"", b"\xff", b'{"ready":{"\xff":""}}', b"[" * 5000, b"9" * 5000]),
)
_HELLOS = st.one_of(
    st.sampled_from([
        b'{"layers":["seccomp"]}', b'{"layers":[]}', b"{}", b'{"failed":["a","b",1]}',
        b'{"layers":["\xff"]}', b'{"failed":["","",99999999999999999999]}', b'{"layers":[1]}',
        b'{"layers":null,"failed":null}', b"null", b"[" * 60_000, b'{"layers":"x"}',
    ]),
    mangled(st.just(b'{"layers":["user namespace","seccomp"]}')),
)  # fmt: skip


@st.composite
def zygotes(draw: st.DrawFn) -> Case:
    """An attack by code that an environment runs at import."""
    call: Call = draw(st.sampled_from(["import", "loop", "fork", "fork", "fork", "hello"]))
    if call == "hello":
        frames = draw(framed(_HELLOS))
        program: list[Program] = [_send(frames)]
    else:
        passed = _some([*_THINGS, "hub"])
        one: st.SearchStrategy[Program] = st.one_of(
            st.builds(_packet, packets),
            st.builds(_packet, packets, passed),
            st.just(Really()) if call == "fork" else st.builds(_packet, packets),
        )
        program = draw(st.lists(one, min_size=1, max_size=4))
    if draw(st.integers(0, 3)) == 0:
        last: list[Program] = [Die(), Die(code=3), Hang(), Sleep(s=3.0)]
        program.append(draw(st.sampled_from(last)))
    return Case("made up", "zygote", call, tuple(program), hurried=True)


def _packet(data: bytes, passed: tuple[Thing, ...] = ()) -> Program:
    try:
        text, digits = data.decode(), ""
    except UnicodeDecodeError:
        text, digits = "", data.hex()
    if passed:
        return Pass(things=passed, text=text, hex=digits)
    return Send(text=text, hex=digits)
