"""Why a process ended: from wait statuses, made up and real."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable

import pytest

from envhub_sandbox import Cause, Limits, OwnReason, Passed, Verdict, judge
from envhub_sandbox.verdict import HOST_MEMORY
from tests.sandbox.alone import Zygote, launchers
from tests.sandbox.attack import PRELUDE

OWN_REASONS: tuple[OwnReason, ...] = (
    "deadline", "episode_deadline", "idle", "output_limit", "frame_limit", "memory_limit",
    "process_limit", "protocol", "cancelled", "closed", "worker_lost",
)  # fmt: skip


def by_signal(number: int) -> int:
    """The wait status of a process that a signal ended."""
    return number


def by_exit(code: int) -> int:
    return code << 8


@pytest.mark.parametrize("code", [0, 1, 77, 255])
def test_an_exit_is_an_exit_whoever_had_other_plans(code: int) -> None:
    for reason in (None, *OWN_REASONS):
        assert judge(by_exit(code), killed_for=reason) == Verdict("exited", code)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (signal.SIGXCPU, "cpu_limit"),
        (signal.SIGXFSZ, "file_limit"),
        (signal.SIGSYS, "syscall_denied"),
        (signal.SIGSEGV, "signalled"),
        (signal.SIGTERM, "signalled"),
        (signal.SIGKILL, "signalled"),
        (signal.SIGRTMAX, "signalled"),
    ],
)
def test_a_signal_that_we_did_not_send_has_its_own_cause(number: int, cause: Cause) -> None:
    assert judge(by_signal(number)) == Verdict(cause, number)


@pytest.mark.parametrize("reason", OWN_REASONS)
def test_our_own_kill_is_judged_by_our_reason(reason: OwnReason) -> None:
    assert judge(by_signal(signal.SIGKILL), killed_for=reason).cause == reason


@pytest.mark.parametrize("reason", OWN_REASONS)
def test_another_signal_than_ours_is_not_judged_by_our_reason(reason: OwnReason) -> None:
    """It crashed before our kill arrived."""
    assert judge(by_signal(signal.SIGSEGV), killed_for=reason).cause == "signalled"


def test_a_dumped_core_does_not_change_the_verdict() -> None:
    assert judge(signal.SIGSEGV | 0x80) == Verdict("signalled", signal.SIGSEGV)


@pytest.mark.parametrize(
    ("cpu_s", "limit_s", "cause"),
    [
        (3.0, 3, "cpu_limit"),
        (3.1, 3, "cpu_limit"),
        (2.9, 3, "signalled"),
        (9.0, 0, "signalled"),
    ],
)
def test_a_kill_after_all_cpu_time_was_used_is_the_limit(
    cpu_s: float, limit_s: float, cause: Cause
) -> None:
    """A pid 1 ignores SIGXCPU, and meets SIGKILL at the hard limit."""
    verdict = judge(by_signal(signal.SIGKILL), cpu_s=cpu_s, cpu_limit_s=limit_s)

    assert verdict.cause == cause


@pytest.mark.parametrize(
    ("verdict", "ok", "words"),
    [
        (Verdict("exited", 0), True, "exited with code 0"),
        (Verdict("exited", 3), False, "exited with code 3"),
        (Verdict("closed", 9), True, "closed"),
        (Verdict("signalled", 11), False, "ended by SIGSEGV"),
        (Verdict("signalled", 50), False, "ended by signal 50"),
        (Verdict("cpu_limit", 9, cpu_s=2.04), False, "used up its CPU time (2.0 s)"),
        (Verdict("file_limit", 25), False, "wrote a file longer than its limit"),
        (Verdict("syscall_denied", 31), False, "made a system call of another architecture"),
        (Verdict("deadline", 9), False, "killed at its deadline"),
        (Verdict("output_limit", 9), False, "killed for printing too much"),
        (Verdict("protocol", 9), False, "killed for breaking the protocol"),
        (Verdict("worker_lost"), False, "went with its worker"),
    ],
)
def test_a_verdict_says_itself_in_words(verdict: Verdict, ok: bool, words: str) -> None:
    assert verdict.ok is ok
    assert str(verdict) == words


def past(cause: Cause, limit: str, allowed: float, observed: float) -> Verdict:
    return Verdict(cause, 9, limit=limit, allowed=allowed, observed=observed)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (
            past("memory_limit", "session_memory_bytes", 1 << 30, 1.2 * (1 << 30)),
            "used 1.2 GiB of memory, allowed 1 GiB",
        ),
        (
            past("memory_limit", HOST_MEMORY, 512 << 20, 200 << 20),
            "killed because the machine had 200 MiB of memory left, and keeps 512 MiB",
        ),
        (
            past("process_limit", "processes", 256, 300),
            "ran 300 processes and threads, allowed 256",
        ),
        (
            past("output_limit", "output_bytes", 1010, 5000),
            "killed for printing too much: 4.88 KiB, allowed 1010 B",
        ),
        (
            past("frame_limit", "frame_bytes", 64 << 20, 65 << 20),
            "killed for too long a message: 65 MiB, allowed 64 MiB",
        ),
        (past("deadline", "step_s", 0.3, 0.3012), "killed at its deadline of 0.3 s"),
        (
            past("episode_deadline", "episode_s", 60, 60.04),
            "killed at the end of its episode's time: 60 s, allowed 60 s",
        ),
        (
            past("idle", "idle_s", 5, 5.4),
            "closed for not being called: 5.4 s, allowed 5 s",
        ),
        (
            past("file_limit", "file_bytes", 3 << 20, 0),
            "wrote a file longer than its limit of 3 MiB",
        ),
        (
            Verdict("cpu_limit", 9, cpu_s=2.04, limit="cpu_s", allowed=2, observed=2.04),
            "used up its CPU time (2.0 s, allowed 2 s)",
        ),
    ],
)
def test_a_verdict_on_a_limit_has_its_numbers(verdict: Verdict, words: str) -> None:
    assert str(verdict) == words


def test_what_was_passed_is_the_verdicts_only_if_our_kill_ended_it() -> None:
    passed = Passed("output_bytes", 10, 20)
    killed = judge(9, killed_for="output_limit", passed=passed)

    assert (killed.limit, killed.allowed, killed.observed) == ("output_bytes", 10, 20)
    assert judge(by_exit(3), killed_for="output_limit", passed=passed) == Verdict("exited", 3)


def test_the_kernels_own_limits_have_their_numbers() -> None:
    cpu = judge(signal.SIGKILL, cpu_s=3.5, cpu_limit_s=3)
    file = judge(signal.SIGXFSZ, file_limit_bytes=10)

    assert (cpu.limit, cpu.allowed, cpu.observed) == ("cpu_s", 3, 3.5)
    assert (file.limit, file.allowed, file.observed) == ("file_bytes", 10, 0)


# ---------------------------------------------------------------- real ends of real processes


def ended(work: Callable[[], object]) -> int:
    """Return the wait status of a child that did `work`."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(77)
    return os.waitpid(child, 0)[1]


def use_cpu() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


def write_much() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    file = os.open("/tmp", os.O_TMPFILE | os.O_WRONLY)
    while True:
        os.write(file, bytes(20))


@pytest.mark.parametrize(
    ("work", "verdict"),
    [
        (lambda: os._exit(0), Verdict("exited", 0)),
        (lambda: 1 / 0, Verdict("exited", 77)),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), Verdict("signalled", 9)),
        (lambda: signal.raise_signal(signal.SIGSYS), Verdict("syscall_denied", 31)),
        (write_much, Verdict("file_limit", 25)),
        (use_cpu, Verdict("cpu_limit", 24)),
    ],
    ids=["exit", "error", "kill", "system call", "long file", "much CPU"],
)
def test_the_end_of_a_child_is_judged_right(
    work: Callable[[], object], verdict: Verdict
) -> None:
    assert judge(ended(work)) == verdict


@pytest.mark.parametrize(
    ("code", "cause", "detail"),
    [
        ("", "exited", 0),
        ("1/0", "exited", 1),
        ("os._exit(42)", "exited", 42),
        ("ctypes.string_at(0)", "signalled", signal.SIGSEGV),
        # process 1 ignores SIGABRT, and abort() then crashes in another way
        ("os.abort()", "signalled", signal.SIGSEGV),
        ("libc.syscall(0x40000000 + 39)", "syscall_denied", signal.SIGSYS),
        # from inside its namespace process 1 cannot be killed, by itself either
        ("os.kill(os.getpid(), 9)\nos._exit(5)", "exited", 5),
    ],
)
def test_the_end_of_a_session_is_judged_right(
    zygote: Zygote, code: str, cause: Cause, detail: int
) -> None:
    verdict = zygote.run(PRELUDE + code).verdict

    assert (verdict.cause, verdict.detail) == (cause, detail)


@pytest.mark.parametrize("reason", OWN_REASONS)
def test_a_session_that_its_owner_killed_ended_for_the_owners_reason(
    zygote: Zygote, reason: OwnReason
) -> None:
    with zygote.session("say('here')\nwhile True: pass") as session:
        session.hear()
        session.kill(reason)

        assert session.wait().verdict.cause == reason


def test_a_session_that_computes_on_and_on_meets_its_cpu_limit() -> None:
    """It ignores the soft limit, as every process 1 does, and what it can handle it handles."""
    stubborn = "import signal\nsignal.signal(signal.SIGXCPU, lambda *_: None)\nwhile True: pass"
    with Zygote(launchers()[0], limits=Limits(cpu_s=1)) as zygote:
        verdict = zygote.run(stubborn).verdict

    assert (verdict.cause, verdict.detail) == ("cpu_limit", signal.SIGKILL)
    assert verdict.cpu_s >= 1


def test_a_verdict_counts_what_children_used(zygote: Zygote) -> None:
    code = """
import os, time
if not os.fork():
    memory = bytearray(b"x") * (100 << 20)
    while time.process_time() < 0.2: pass
    os._exit(0)
os.wait()
"""
    verdict = zygote.run(code).verdict

    assert verdict.cpu_s >= 0.2
    assert verdict.peak_bytes >= 100 << 20
