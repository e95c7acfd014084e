"""An environment that turns against its hub: in its session process, and at its import.

Its code is not trusted, and speaks with the hub on three channels: the session's socket, the
broker's, and, at import, the zygote's. Whatever it says there ends in a typed error for the
one who uses it; another environment of the same hub notices nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import envhub
from envhub import EmbeddedSession, EnvhubError
from envhub.errors import (
    DeadlineExceeded,
    EnvironmentFailed,
    InvalidAction,
    LimitExceeded,
    RemoteProtocolError,
    WorkerError,
    WorkerLost,
    WorkerStartFailed,
)
from envhub_sandbox import LayerFailed

ENVS = Path(__file__).parents[2] / "envs"
MANIFEST = """
name = "hostile"
entry = "env:Hostile"
agent_code = true
[deadlines]
start_s = {start_s}
step_s = {step_s}
"""
# a step executes what it is told; `reply` is a raw answer to the call under way
CODE = """
import json, os, socket, struct, sys, time
from envhub import Action, Environment, Observation, State
from envhub.wire import messages
from envhub.wire.messages import *

class Code(Action):
    code: str = ""

def write(descriptor, data):
    while data: data = data[os.write(descriptor, data):]

def wish(number):
    os.write(5, messages.encode(OpenAgent(number)))

def frame(message):
    data = messages.encode(message)
    return struct.pack(">I", len(data)) + data

class Hostile(Environment[Code, Observation, State]):
    def reset(self, seed=None, episode_id=None) -> Observation:
        return Observation()

    def step(self, action: Code) -> Observation:
        caller = sys._getframe()
        while not hasattr(caller.f_locals.get("request"), "op"): caller = caller.f_back
        op = caller.f_locals["request"].op
        exec(action.code, {**globals(), "op": op})
        return Observation()

    @property
    def state(self) -> State:
        return State()
"""


@contextmanager
def opened(
    folder: Path, *, at_import: str = "", start_s: float = 30, step_s: float = 30
) -> Iterator[tuple[EmbeddedSession, EmbeddedSession]]:
    """Hold a session of a hostile environment, and one of another in the same hub."""
    folder.chmod(0o755)  # another user than root runs it
    folder.joinpath("env.toml").write_text(MANIFEST.format(start_s=start_s, step_s=step_s))
    folder.joinpath("env.py").write_text(CODE + at_import)
    with envhub.make("echo", envs=(folder, ENVS)) as other:
        other.reset()
        with envhub.make("hostile", envs=(folder, ENVS)) as hostile:
            hostile.reset()
            yield hostile, other


def is_well(session: EmbeddedSession) -> bool:
    return bool(session.step({"message": "well"}).observation.message == "well")


AGENT = "from envhub import AgentSandbox\nAgentSandbox.open().close()"
# name → what the session process does during a step, the error, the verdict
SESSION: dict[str, tuple[str, type[EnvhubError], str]] = {
    "bytes that are no frame": ("write(3, b'\\xff' * 8)", WorkerLost, "protocol"),
    "a frame that is no message": (
        "write(3, struct.pack('>I', 3) + b'abc')", WorkerLost, "protocol",
    ),
    "an unknown message": (
        "write(3, struct.pack('>I', 1) + b'\\x80')", WorkerLost, "protocol",
    ),
    "a request": ("write(3, frame(Describe(op)))", WorkerLost, "protocol"),
    "the answer to the next call": (
        "write(3, frame(Observed(op + 1, b'\\x80')))", WorkerLost, "protocol",
    ),
    "the answer to the last call": (
        "write(3, frame(Observed(op - 1, b'\\x80')))", WorkerLost, "protocol",
    ),
    "two answers": ("write(3, frame(Observed(op, b'\\x80')) * 2)", WorkerLost, "protocol"),
    "an exit": ("os._exit(0)", WorkerLost, "exited"),
    "a crash": ("import ctypes\nctypes.string_at(0)", WorkerLost, "signalled"),
    "a system call of another kind": (
        "import ctypes\nctypes.CDLL(None).syscall(0x40000000 + 39)",
        LimitExceeded, "syscall_denied",
    ),
    "output without an end": (
        "while True: os.write(1, bytes(65536))", LimitExceeded, "output_limit",
    ),
    "words to the broker that are none": ("os.write(5, b'x')", WorkerLost, "protocol"),
    "an answer to the broker": (
        "os.write(5, messages.encode(AgentOpened(1)))", WorkerLost, "protocol",
    ),
    "wishes without waiting": (
        "for number in range(40): os.write(5, messages.encode(OpenAgent(number)))",
        WorkerLost, "protocol",
    ),
}  # fmt: skip
IN_TIME: dict[str, str] = {
    "an endless loop": "while True: pass",
    "a trickle of output": "[os.fork() for _ in range(3)]\nwhile True: os.write(1, b'x')",
    "a trickle of an answer": (
        "os.write(3, struct.pack('>I', 60 << 20))\n"
        "[os.fork() for _ in range(3)]\nwhile True: os.write(3, b'x')"
    ),
}


def test_a_session_that_misbehaves_is_a_typed_error_and_the_next_reset_is_well(
    tmp_path: Path,
) -> None:
    seen: dict[str, object] = {}
    well: dict[str, bool] = {}
    with opened(tmp_path) as (hostile, other):
        for name, (code, _, _) in SESSION.items():
            with pytest.raises(WorkerError) as caught:
                hostile.step({"code": f"{code}\ntime.sleep(60)"})  # until it is killed
            seen[name] = (type(caught.value), caught.value.verdict)
            neighbour = is_well(other)
            hostile.reset()
            well[name] = neighbour and hostile.step({}).observation == {}

    assert seen == {name: (error, verdict) for name, (_, error, verdict) in SESSION.items()}
    assert well == dict.fromkeys(SESSION, True)


@pytest.mark.parametrize("name", IN_TIME)
def test_a_session_that_goes_on_is_killed_at_its_deadline(name: str, tmp_path: Path) -> None:
    with opened(tmp_path, step_s=0.5) as (hostile, other):
        with pytest.raises(DeadlineExceeded) as caught:
            hostile.step({"code": IN_TIME[name]})

        assert caught.value.verdict == "deadline"
        assert is_well(other)


def test_descriptors_sent_to_the_hub_never_arrive(tmp_path: Path) -> None:
    code = """
for _ in range(20):
    socket.send_fds(socket.socket(fileno=os.dup(5)), [messages.encode(KillAgent(9))], [0] * 9)
"""
    with opened(tmp_path) as (hostile, _):
        hostile.step({})
        before = len(os.listdir("/proc/self/fd"))
        hostile.step({"code": code})
        hostile.step({})
        after = len(os.listdir("/proc/self/fd"))

    # the hub may be making sessions ready meanwhile, which takes a few; these were 180
    assert after < before + 90


def test_one_sessions_wish_cannot_end_anothers_sandbox(tmp_path: Path) -> None:
    """Numbers are each session's own."""
    kill = "for n in range(200): os.write(5, messages.encode(KillAgent(n))), time.sleep(0)"
    with (
        opened(tmp_path) as (hostile, _),
        envhub.make("coding", envs=(tmp_path, ENVS)) as coding,
    ):
        coding.reset()
        coding.step({"code": "kept = 1"})
        hostile.step({"code": kill})

        assert coding.step({"code": "print(kept)"}).observation.stdout == "1\n"


MANY_KEYS = "Observed(op, b'\\xde\\0\\x10' + b''.join(b'\\x92\\1%c\\0' % n for n in range(16)))"


ARRAY = """
import msgspec
from envhub.wire.arrays import Array
def array(*fields):
    packed = msgspec.msgpack.Ext(1, msgspec.msgpack.encode(Array(*fields)))
    return msgspec.msgpack.encode({"a": packed})
"""
# what only the session's side checks before it says it
REPLIES: dict[str, type[EnvhubError]] = {
    "Observed(op, b'\\x80', reward=float('nan'))": RemoteProtocolError,
    "Observed(op, b'\\x80', reward=float('inf'))": RemoteProtocolError,
    "Observed(op, b'\\x81\\xa1a' + b'\\x91' * 600 + b'\\1')": RemoteProtocolError,
    # their hashes collide at will: 140 kB take 0.8 s, ten times as many 80 s
    MANY_KEYS: RemoteProtocolError,
    "StateRead(op, b'\\x80')": RemoteProtocolError,
    "Observed(op, b'\\xc1')": RemoteProtocolError,
    "Observed(op, array('<f4', (1 << 40,), b''))": RemoteProtocolError,
    "Observed(op, array('|O', (1,), bytes(8)))": RemoteProtocolError,
    "Observed(op, array('<f4', (-1, -1), bytes(4)))": RemoteProtocolError,
    "Observed(op, array('nonsense', (1,), bytes(4)))": RemoteProtocolError,
    "Failed(op, 'no_such_code', 'x')": EnvironmentFailed,
    "Failed(op, 'capacity', 'no room')": EnvironmentFailed,
    "Failed(op, 'hub_forked', 'yes')": EnvironmentFailed,
    "Failed(op, 'worker_lost', 'yes')": EnvironmentFailed,
    "Failed(op, 'invalid_action', 'x')": InvalidAction,
}


def test_a_message_that_only_its_own_side_checked_is_checked_again(tmp_path: Path) -> None:
    pytest.importorskip("numpy")  # without it, an array is not made into one
    seen: dict[str, type[EnvhubError]] = {}
    with opened(tmp_path):
        for reply in REPLIES:
            with envhub.make("hostile", envs=(tmp_path, ENVS)) as session:
                session.reset()
                with pytest.raises(EnvhubError) as caught:
                    session.step({"code": f"{ARRAY}\nwrite(3, frame({reply}))\nos._exit(0)"})
                seen[reply] = type(caught.value)

    assert seen == REPLIES


def test_a_wish_repeated_before_it_is_answered_is_a_broken_protocol(tmp_path: Path) -> None:
    with opened(tmp_path) as (hostile, _):
        hostile.step({"code": AGENT})
        with pytest.raises(WorkerLost) as caught:
            hostile.step({"code": "for _ in range(2): wish(900)\ntime.sleep(60)"})

    assert caught.value.verdict == "protocol"


# ---------------------------------------------------------------- at import


PATCH = """
from envhub_sandbox import isolate, zygote
packet = lambda **fields: json.dumps(fields).encode()
def answer(zygote, session, descriptors):
    control = zygote._control
    {0}
zygote._Zygote._fork_session = answer
"""
# name → what the zygote does, and for how long one waits for more
ZYGOTE: dict[str, tuple[str, float]] = {
    "no packet": (PATCH.format("control.send(b'x')"), 30),
    "a refusal": (PATCH.format("control.send(packet(refused=session, why='no'))"), 30),
    "itself": (
        PATCH.format(
            "socket.send_fds(control, [packet(forked=session)], [os.pidfd_open(os.getpid())])"
        ),
        30,
    ),
    "an error": ("raise SystemExit(0)", 30),
    "a thread": (
        "import threading\nthreading.Thread(target=time.sleep, args=[60], daemon=True).start()",
        30,
    ),
    "a fork without a descriptor": (PATCH.format("control.send(packet(forked=session))"), 1),
    "no answer": (PATCH.format("pass"), 1),
    "an import without an end": ("while True: pass", 1),
    "output without an end": ("while True: os.write(1, bytes(65536))", 1),
}


@pytest.mark.parametrize("name", ZYGOTE)
def test_a_zygote_that_misbehaves_is_a_failed_start(name: str, tmp_path: Path) -> None:
    at_import, start_s = ZYGOTE[name]
    with (
        pytest.raises(WorkerStartFailed),
        opened(tmp_path, at_import=at_import, start_s=start_s),
    ):
        pass
    with envhub.make("echo", envs=(tmp_path, ENVS)) as other:
        other.reset()

        assert is_well(other)


def test_a_descriptor_that_is_no_process_is_a_failed_start(tmp_path: Path) -> None:
    fake = "socket.send_fds(control, [packet(forked=session)], [os.open('/dev/null', 0)])"
    with pytest.raises(WorkerStartFailed), opened(tmp_path, at_import=PATCH.format(fake)):
        pass


def test_an_exit_at_import_is_the_environments_failure(tmp_path: Path) -> None:
    """Else one environment could have the hub give up bubblewrap for all others."""
    with pytest.raises(WorkerStartFailed), opened(tmp_path, at_import="os._exit(0)"):
        pass


@pytest.mark.parametrize("status", [2**40, -1, 0x137F, 2**62])
def test_a_zygote_cannot_end_the_hub_by_a_status_that_is_none(
    status: int, tmp_path: Path
) -> None:
    lies = f"""
from envhub_sandbox import zygote
packet = lambda **fields: json.dumps(fields).encode()
really = zygote._Zygote._fork_session
def answer(self, session, descriptors):
    for number in (session, session + 1, session + 7):
        self._control.send(packet(ended=number, status={status}))
    really(self, session, descriptors)
    self._control.send(packet(ended=session, status={status}))
zygote._Zygote._fork_session = answer
"""
    with opened(tmp_path, at_import=lies) as (_, other):
        assert is_well(other)
        assert is_well(other)


def test_a_zygote_that_builds_no_layer_gives_no_session(tmp_path: Path) -> None:
    """Its sessions are as isolated as itself, and claim to be more."""
    none = """
from envhub_sandbox.plan import Plan
really = Plan.run
Plan.run = lambda plan: really(plan) if plan.calls[0].layer == "descriptors" else None
"""
    with pytest.raises(LayerFailed, match="the kernel does not show around the process"):
        with opened(tmp_path, at_import=none):
            pass
    with envhub.make("echo", envs=(tmp_path, ENVS)) as other:
        assert "seccomp" in other.receipt.seen
