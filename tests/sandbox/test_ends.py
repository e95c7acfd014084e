"""However it ends, everything ends: owner, zygote or session, by SIGKILL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import envhub_sandbox
from envhub_sandbox import Launcher, Limits
from tests.sandbox.alone import DEADLINE_S, Session, Zygote

ROOT = str(Path(__file__).parents[2])
PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
# not a child of the session any more, in a session of its own, and deaf
DAEMONS = """
import os, signal
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)
read, write = os.pipe()
for _ in range(3):
    if not os.fork():
        os.setsid()
        if not os.fork():
            os.write(write, b"x")
            while True: signal.pause()
        os._exit(0)
for _ in range(3): os.read(read, 1)
say("daemons")
hear()
"""
OWNER = f"""
import json, os, sys
sys.path[:0] = [{ROOT!r}, {PACKAGE!r}]
from tests.sandbox.alone import Zygote
given = json.loads(sys.argv[1])
zygote = Zygote(given["launcher"], prepare=given["prepare"], wait_ready=not given["prepare"],
                left_out=tuple(given["left_out"]))
if given["prepare"]:
    assert zygote.packet()[0] == {{"nests": True}}
else:
    sessions = [zygote.session(given["code"]) for _ in range(3)]
    assert [session.hear() for session in sessions] == ["daemons"] * 3
print("ready", flush=True)
sys.stdin.read()
"""


def live(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; one that only waits to be reaped has ended."""

    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [process for process in processes if runs(process)]


def wait_until(is_true: Callable[[], bool], *, within_s: float = 5.0) -> bool:
    """Poll; milliseconds are enough, and the deadline is for a test that fails."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.002)
    return is_true()


@contextmanager
def orphaned(
    launcher: Launcher, *, prepare: str = "", left_out: tuple[str, ...] = ()
) -> Iterator[list[psutil.Process]]:
    """Start an owner with a sandbox, kill it, and yield what it had started."""
    given = {"launcher": launcher, "code": DAEMONS, "prepare": prepare, "left_out": left_out}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps(given)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert owner.stdin is not None
    assert owner.stdout is not None
    started: list[psutil.Process] = []
    try:
        assert owner.stdout.readline() == b"ready\n"
        started = psutil.Process(owner.pid).children(recursive=True)
        owner.kill()
        owner.wait(DEADLINE_S)
        yield started
    finally:
        owner.kill()
        owner.wait()
        owner.stdin.close()
        owner.stdout.close()
        for process in live(started):
            process.kill()


def test_nothing_survives_its_owner(launcher: Launcher) -> None:
    """Launcher, zygote, three sessions, three deaf daemons each."""
    with orphaned(launcher) as started:
        assert len(started) >= 1 + 1 + 3 + 9 - (launcher == "bubblewrap")
        assert wait_until(lambda: not live(started)), live(started)


def test_a_zygote_that_does_not_listen_dies_with_its_owner(launcher: Launcher) -> None:
    """In an endless import it does not notice that the owner hung up; the kernel does."""
    endless = "import time\nwhile True: time.sleep(1000)"
    with orphaned(launcher, prepare=endless) as started:
        assert len(started) >= 2
        assert wait_until(lambda: not live(started)), live(started)


def test_without_the_parents_death_signal_it_would_survive(launcher: Launcher) -> None:
    """The control of the one above."""
    endless = "import time\nwhile True: time.sleep(1000)"  # and no word: nobody would hear it
    left_out = ("die with parent",)
    with orphaned(launcher, prepare=endless, left_out=left_out) as started:
        assert not wait_until(lambda: not live(started), within_s=0.3)


def inside(session: Session) -> list[psutil.Process]:
    """The processes of a session; one may end while it is looked at."""
    own = os.readlink(f"/proc/{session.pid}/ns/pid")
    found = []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == own:
                found.append(psutil.Process(int(name)))
        except (OSError, psutil.NoSuchProcess):
            pass  # it ended, or is not ours to look at
    return found


def test_a_session_ends_with_its_daemons(zygote: Zygote) -> None:
    with zygote.session(DAEMONS) as session:
        assert session.hear() == "daemons"
        processes = inside(session)
        session.kill("deadline")
        verdict = session.wait().verdict

    assert len(processes) >= 4
    assert wait_until(lambda: not live(processes)), live(processes)
    assert verdict.cause == "deadline"


def test_a_session_that_returns_ends_with_its_daemons(zygote: Zygote) -> None:
    """The first process of a pid namespace takes the others with it."""
    with zygote.session(DAEMONS) as session:
        session.hear()
        processes = inside(session)
        session.say("return")
        verdict = session.wait().verdict

    assert wait_until(lambda: not live(processes)), live(processes)
    assert (verdict.cause, verdict.detail) == ("exited", 0)


BOMB = """
import os, subprocess, sys
subprocess.Popen(["bash", "-c", ":(){ :|:& };:"], stderr=subprocess.DEVNULL)
while len([name for name in os.listdir("/proc") if name.isdigit()]) < 60: pass
say("full")
while True: pass
"""


def test_a_bomb_of_64_processes_ends_with_one_kill(launcher: Launcher) -> None:
    """And the neighbour and the zygote are there before, meanwhile and after."""
    with Zygote(launcher, limits=Limits(processes=64)) as zygote:
        neighbour = zygote.session("while word := hear(): say(word)")
        with zygote.session(BOMB) as bomb:
            assert bomb.hear() == "full"
            processes = inside(bomb)
            neighbour.say("meanwhile")
            answer = neighbour.hear()
            bomb.kill("deadline")
            verdict = bomb.wait().verdict

        assert wait_until(lambda: not live(processes)), live(processes)
        assert answer == "meanwhile"
        assert zygote.run("print('after')").printed == "after\n"
    assert verdict.cause == "deadline"


def test_a_pipe_bomb_of_a_shell_never_gets_past_the_limit(launcher: Launcher) -> None:
    with Zygote(launcher, limits=Limits(processes=64)) as zygote:
        with zygote.session(BOMB) as bomb:
            bomb.hear()
            counts = [len(inside(bomb)) for _ in range(20)]

    assert max(counts) <= 64


def test_sessions_die_with_their_zygote(launcher: Launcher) -> None:
    with Zygote(launcher) as zygote:
        sessions = [zygote.session(DAEMONS) for _ in range(3)]
        for session in sessions:
            session.hear()
        processes = [each for session in sessions for each in inside(session)]
        parent = psutil.Process(sessions[0].pid).ppid()
        os.kill(parent, signal.SIGKILL)

        assert wait_until(lambda: all(session.is_gone() for session in sessions))
        assert wait_until(lambda: not live(processes)), live(processes)
        zygote.launched.process.wait(DEADLINE_S)


def test_a_zygote_that_is_hung_up_on_ends_by_itself(launcher: Launcher) -> None:
    with Zygote(launcher) as zygote:
        session = zygote.session(DAEMONS)
        session.hear()
        processes = inside(session)
        zygote.launched.control.close()

        assert zygote.launched.process.wait(DEADLINE_S) == 0
        assert wait_until(lambda: not live(processes)), live(processes)
