"""Agent code against the keeper: process 1 of its own sandbox, and the same user.

What ends the keeper turns a reward of 0 into none at all, for then the sandbox has failed and
not the agent. So nothing that agent code does may end it, stop it or slow it down.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import envhub
from envhub import EmbeddedSession
from tests.sharing import nothing_leaks as nothing_leaks

ENVS = Path(__file__).parents[2] / "envs"
SYSCALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    if libc[function](*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
"""


@pytest.fixture(scope="module")
def session(nothing_leaks: None) -> Iterator[EmbeddedSession]:
    with envhub.make("coding", envs=ENVS) as session:
        yield session


@pytest.fixture
def env(session: EmbeddedSession) -> EmbeddedSession:
    """An episode of its own: in a fresh process, and with a fresh sandbox for the agent."""
    session.reset()
    return session


def step(env: EmbeddedSession, code: str, **fields: Any) -> Any:
    return env.step({"code": code, **fields}).observation


def outcome(seen: Any) -> tuple[object, ...]:
    return seen.exit_code, seen.cut, seen.ended


WELL = (0, None, False)


def test_no_signal_from_inside_reaches_it(env: EmbeddedSession) -> None:
    """It handles none: SIGINT above all, which Python would make an exception of."""
    code = """
import os, signal
for number in range(1, 65):
    os.kill(1, number)
pidfd = os.pidfd_open(1)
by_folder = os.open("/proc/1", os.O_RDONLY)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGHUP):
    signal.pidfd_send_signal(pidfd, number)
    signal.pidfd_send_signal(by_folder, number)
"""
    assert outcome(step(env, code)) == WELL
    assert step(env, "print('there')").stdout == "there\n"


def test_no_signal_that_the_kernel_sends_for_it_reaches_it(env: EmbeddedSession) -> None:
    """A descriptor can name a process and a signal for when it becomes readable."""
    code = """
import fcntl, os, socket
for number in (2, 9, 15, 19, 34):
    ours, theirs = socket.socketpair()
    fcntl.fcntl(ours, fcntl.F_SETOWN, 1)
    fcntl.fcntl(ours, 10, number)  # F_SETSIG
    fcntl.fcntl(ours, fcntl.F_SETFL, os.O_ASYNC)
    theirs.send(b"x")
"""
    assert outcome(step(env, code)) == WELL
    assert step(env, "print('there')").stdout == "there\n"


# each of them works on another process of the same user, which is the control
CHANGES = {
    "descriptors": "import resource\nresource.prlimit({pid}, resource.RLIMIT_NOFILE, (3, 3))",
    "CPU time": "import resource\nresource.prlimit({pid}, resource.RLIMIT_CPU, (600, 600))",
    "memory": "import resource\nresource.prlimit({pid}, resource.RLIMIT_AS, (2**30, 2**30))",
    "limits": "import resource\nresource.prlimit({pid}, resource.RLIMIT_NPROC)",
    "priority": "import os\nos.setpriority(os.PRIO_PROCESS, {pid}, 19)",
    "scheduler": "import os\nos.sched_setscheduler({pid}, os.SCHED_IDLE, os.sched_param(0))",
    "processor": "import os\nos.sched_setaffinity({pid}, [min(os.sched_getaffinity(0))])",
    "disk priority": SYSCALL + "call('syscall', 251, 1, {pid}, 3 << 13)",
}


@pytest.mark.parametrize("what", CHANGES)
def test_agent_code_cannot_take_from_it(env: EmbeddedSession, what: str) -> None:
    seen = step(env, CHANGES[what].format(pid=1))

    assert outcome(seen) == (1, None, False)
    assert "PermissionError" in seen.stderr
    assert step(env, "print('there')").stdout == "there\n"


@pytest.mark.parametrize("what", CHANGES)
def test_agent_code_can_do_so_to_a_process_of_its_own(env: EmbeddedSession, what: str) -> None:
    """The control: it is not forbidden altogether."""
    spawn = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
    code = CHANGES[what].replace("{pid}", "child.pid")

    assert outcome(step(env, f"{spawn}{code}\nchild.kill()")) == WELL


def test_agent_code_cannot_slow_all_processes_of_its_user(env: EmbeddedSession) -> None:
    seen = step(env, "import os\nos.setpriority(os.PRIO_USER, 0, 19)")

    assert "PermissionError" in seen.stderr


def test_agent_code_may_still_be_nice(env: EmbeddedSession) -> None:
    code = "import os\nos.nice(3)\nos.setpriority(os.PRIO_PROCESS, 0, 19)\n"

    assert outcome(step(env, code)) == WELL


def test_it_shows_nothing_of_itself(env: EmbeddedSession) -> None:
    code = """
import os
found = []
for name in ("mem", "environ", "maps", "auxv", "io", "stack", "syscall", "pagemap"):
    try: found.append(open(f"/proc/1/{name}", "rb").read(1) and name)
    except OSError: pass
for name in ("fd", "map_files", "task/1/fd"):
    try: found += os.listdir(f"/proc/1/{name}") and [name]
    except OSError: pass
for name in ("root", "cwd", "exe", "ns/pid"):
    try: found.append(os.readlink(f"/proc/1/{name}") and name)
    except OSError: pass
print(found)
"""
    assert step(env, code).stdout == "[]\n"


def test_agent_code_is_shown_all_that_of_a_child(env: EmbeddedSession) -> None:
    """The control of the one above."""
    code = """
import os, subprocess
child = subprocess.Popen(["sleep", "60"])
print(bool(open(f"/proc/{child.pid}/maps").read() and os.listdir(f"/proc/{child.pid}/fd")))
child.kill()
"""
    assert step(env, code).stdout == "True\n"


@pytest.mark.parametrize("byte", [b"\xff", b"\x01", b"\\", b"\xe2\x82\xac"], ids=repr)
def test_output_that_grows_when_it_is_written_down_is_carried(
    env: EmbeddedSession, byte: bytes
) -> None:
    """Each byte may become six characters of JSON, and there are two streams."""
    code = f"""
import os
data = {byte!r} * (1_000_000 // {len(byte)})
for stream in (1, 2):
    left = data
    while left: left = left[os.write(stream, left):]
"""
    seen = step(env, code)
    text = (byte * (1_000_000 // len(byte))).decode(errors="replace")

    assert outcome(seen) == WELL
    assert seen.stdout == seen.stderr == text


def forge(*replies: bytes) -> str:
    return f"""
import os, struct
frames = b"".join(struct.pack(">I", len(data)) + data for data in {replies!r})
os.write(3, frames)
"""


EXIT = b'{"exit_code": 0, "cut": null}'


@pytest.mark.parametrize(
    "reply",
    [
        b'{"exit_code": 1000000000000000000000000000000, "cut": null}',
        b'{"exit_code": 0, "cut": "timeout"}',
        b'{"exit_code": 0, "cut": null, "stdout": "forged"}',
        b'{"ran": {"exit_code": 0}}',
        b'{"exit_code": ' + b"[" * 900 + b"]" * 900 + b', "cut": null}',
        b"[" * 100_000,
        b"null",
        b"\xff\xff",
    ],
    ids=lambda reply: reply[:60].decode(errors="replace"),
)
def test_a_forged_report_is_the_end_of_the_interpreter(
    env: EmbeddedSession, reply: bytes
) -> None:
    """It stays so after the next one, which is a fresh interpreter on the same files."""
    seen = step(env, "open('kept', 'w')\n" + forge(reply) + "import time; time.sleep(60)")
    after = step(env, "import os\nprint(os.listdir())")

    assert outcome(seen) == (None, "killed", True)
    assert after.stdout == "['kept']\n"


def test_reports_too_many_do_not_answer_the_next_step(env: EmbeddedSession) -> None:
    """What nobody asked for is not kept for the next question."""
    forged = step(env, "kept = 1\n" + forge(EXIT, EXIT))
    after = step(env, "print('second', 'kept' in globals())\n1 / 0")

    assert forged.exit_code == 0
    assert after.stdout == "second False\n"
    assert after.exit_code == 1


def test_closing_every_descriptor_is_an_end_with_a_reason(env: EmbeddedSession) -> None:
    seen = step(env, "import os, time\nos.closerange(0, 256)\ntime.sleep(60)")

    assert outcome(seen) == (None, "killed", True)
    assert step(env, "print('there')").stdout == "there\n"


def test_output_past_the_limit_ends_it_also_when_it_has_answered(env: EmbeddedSession) -> None:
    """A child goes on printing; the interpreter itself is done."""
    code = """
import fcntl, os
fcntl.fcntl(1, 1031, 1 << 20)  # F_SETPIPE_SZ: all of it fits before anybody reads
if not os.fork():
    os.write(2, b"x" * 60_000)
    os._exit(0)
os.wait()
"""
    over = "import os\nfor _ in range(20): os.write(1, bytes(65536))"
    quiet, loud = step(env, code), step(env, over)

    assert outcome(quiet) == WELL
    assert outcome(loud) == (None, "output", True)
    assert len(loud.stdout) == 1 << 20


def test_a_daemon_that_prints_on_keeps_no_step_waiting(env: EmbeddedSession) -> None:
    """What it adds after the answer is the next step's, and is that step's output."""
    daemon = """
import os
if not os.fork():
    while True: os.write(1, b"x")
"""
    first = step(env, daemon, timeout_s=20)
    second = step(env, "pass", timeout_s=20)

    assert outcome(first) in (WELL, (None, "output", True))
    assert outcome(second) in (WELL, (None, "output", True))


def test_a_trickle_of_output_does_not_outlast_the_deadline(env: EmbeddedSession) -> None:
    code = """
import os, time
os.fork(), os.fork()
while True:
    os.write(1, b"x")
    time.sleep(0)
"""
    assert step(env, code, timeout_s=0.3).cut in ("timeout", "output")
    assert step(env, "print('there')").stdout == "there\n"


def test_a_disk_without_a_free_file_can_be_cleaned_up(env: EmbeddedSession) -> None:
    """Standard input is no file when it is empty, and every step gets one."""
    fill = """
import os
try:
    for number in range(100_000): open(f"/tmp/{number}", "w").close()
except OSError as error:
    print(error.strerror)
"""
    clean = (
        "import os\nfor name in os.listdir('/tmp'): os.remove('/tmp/' + name)\nprint('clean')"
    )
    full, cleaned = step(env, fill), step(env, clean)

    assert full.stdout == "No space left on device\n"
    assert cleaned.stdout == "clean\n"
    assert step(env, "print(input())", stdin="fed").stdout == "fed\n"


def test_a_full_disk_is_said_when_there_is_input_to_keep(env: EmbeddedSession) -> None:
    fill = "import os\nfor number in range(8191): open(f'/tmp/{number}', 'w').close()"
    step(env, fill + "\nopen('/tmp/last', 'w').close()")
    seen = step(env, "print(input())", stdin="fed")

    assert "No space left on device" in seen.stderr
    assert outcome(seen) == (1, None, False)


def test_31_processes_that_stay_do_not_keep_the_next_interpreter_from_starting(
    env: EmbeddedSession,
) -> None:
    """The keeper kills everything before it forks."""
    code = """
import os, signal
try:
    while True:
        if not os.fork(): signal.pause()
except BlockingIOError:
    print("full", flush=True)
os._exit(3)
"""
    full = step(env, code)
    after = step(env, "import os\nif not os.fork(): os._exit(0)\nos.wait()")

    assert (full.stdout, full.exit_code, full.ended) == ("full\n", 3, True)
    assert outcome(after) == WELL


def test_a_child_that_keeps_the_channel_does_not_hide_the_end(env: EmbeddedSession) -> None:
    """Forked without exec, it holds every descriptor of the interpreter."""
    code = """
import os, signal
if not os.fork(): signal.pause()
os._exit(7)
"""
    assert outcome(step(env, code, timeout_s=30)) == (7, None, True)


# ---------------------------------------------------------------- what an ordinary process is


def test_an_ordinary_python_process_dies_of_an_interrupt() -> None:
    """The control for signals: it is Python's own handler that would make the hole."""
    victim = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert victim.stdout is not None
    assert victim.stdin is not None
    victim.stdout.readline()
    subprocess.run([sys.executable, "-c", f"import os; os.kill({victim.pid}, 2)"], check=True)
    code = victim.wait()
    victim.stdout.close()
    victim.stdin.close()

    assert code != 0
