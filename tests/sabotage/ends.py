"""Attacks whose evidence is outside: what outlives its end, or what others lose.

Each returns whether it worked. None of them waits to see that nothing happens. The kernel
sends the signal of a parent's death before the parent can be reaped, and it is then either
pending or has done its work.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envhub_sandbox import Bind, SandboxError, launcher, syscalls
from tests.sabotage.worlds import LIMITS, World
from tests.sandbox.alone import Session, Zygote
from tests.sandbox.attack import DAEMON
from tests.sandbox.left_out_places import HANGS

_MS_SHARED = 1 << 20
LeftOut = tuple[str, ...]
_ENDLESS = "import signal\nprint('endless', flush=True)\nwhile True: signal.pause()"


def built(world: World, left_out: LeftOut, *, prepare: str = "", wait: bool = True) -> Zygote:
    return Zygote(
        world.launcher,
        grade=world.grade,
        limits=LIMITS,
        prepare=prepare,
        left_out=left_out,
        wait_ready=wait,
    )


def is_ending(process: int, number: int = signal.SIGKILL) -> bool:
    """Whether a process has ended, or this signal is on its way to it."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    pending = int(found["SigPnd"], 16) | int(found["ShdPnd"], 16)
    return found["State"][0] in "ZX" or bool(pending & 1 << (number - 1))


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(process: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if name.isdigit() and parent_of(int(name)) == process:
                found.append(int(name))
    return found


def stop(process: int) -> None:
    """Stop a process, so that a signal stays with it; return when it stands."""
    os.kill(process, signal.SIGSTOP)
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
        pass


def kill(process: int) -> None:
    """End one process, and return when those that it takes along have been told."""
    held = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    select.select([held], [], [])
    os.close(held)


@contextmanager
def bystander(world: World) -> Iterator[int]:
    """A process in our group, of the sandbox's user, that has nothing to do with any of it."""
    spare = os.geteuid() == 0 and world.grade.namespaces
    process = subprocess.Popen(
        ["sleep", "600"], user=launcher.spare_uid() if spare else None, cwd="/"
    )
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- outliving


def outlives_its_owner(world: World, left_out: LeftOut) -> bool:
    """The launcher does, if nobody tells it."""
    read, write = os.pipe()
    owner = os.fork()
    if not owner:
        os.setsid()
        zygote = built(world, left_out, prepare=_ENDLESS, wait=False)
        if HANGS in left_out:
            os.waitid(os.P_PID, zygote.launched.process.pid, os.WSTOPPED)
        else:
            zygote.packet()  # it nests; then comes the endless import
        os.write(write, b"%d" % zygote.launched.process.pid)
        signal.pause()
    os.close(write)
    started = int(os.read(read, 32) or b"0")
    os.close(read)
    if not started:
        os.waitpid(owner, 0)
        raise AssertionError("there was no launcher")
    if world.grade.fenced:
        stop(started)  # its order waits then
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    order = signal.SIGTERM if world.grade.fenced else signal.SIGKILL
    return not is_ending(started, order)


def outlives_its_owner_before_it_is_built(world: World, left_out: LeftOut) -> bool:
    return outlives_its_owner(world, (*left_out, HANGS))


def outlives_its_launcher(world: World, left_out: LeftOut) -> bool:
    """The zygote does, in an import that does not listen."""
    with built(world, left_out, prepare=_ENDLESS, wait=False) as zygote:
        zygote.packet()
        started = zygote.launched.process.pid
        (below,) = children_of(started)
        kill(started)
        return not is_ending(below)


def outlives_its_zygote(world: World, left_out: LeftOut) -> bool:
    """A session does, or its executioner."""
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as session:
        session.hear()
        above = parent_of(session.pid)
        order = signal.SIGTERM if world.grade.fenced else signal.SIGKILL
        if world.grade.fenced:  # whoever would end it for another reason
            stop(zygote.launched.process.pid)
            stop(session.pid)
        kill(above)
        worked = not is_ending(session.pid, order)
        zygote.launched.process.kill()  # it cannot be ordered to any more
        return worked


def outlives_its_executioner(world: World, left_out: LeftOut) -> bool:
    """What runs an agent's code does, when who would end it is ended itself."""
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as session:
        session.hear()
        (below,) = children_of(session.pid)
        stop(zygote.launched.process.pid)
        kill(session.pid)
        worked = not is_ending(below)
        zygote.launched.process.kill()
        return worked


def outlives_its_session(world: World, left_out: LeftOut) -> bool:
    """A daemon does: its executioner waits for it, and has not killed it."""
    with built(world, left_out) as zygote, zygote.session(DAEMON) as session:
        daemon = _daemon_of(session)
        session.kill()
        while not session.is_gone() and not _waits(session.pid):
            pass
        return not is_ending(daemon)


def _waits(process: int) -> bool:
    """Whether it stands in wait4(2)."""
    try:
        return Path(f"/proc/{process}/syscall").read_text().split()[0] == "61"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _daemon_of(session: Session) -> int:
    """Return its number: nobody else is that deaf."""
    session.hear()
    (daemon,) = [int(p) for p in os.listdir("/proc") if p.isdigit() and _ignores_all(int(p))]
    return daemon


def _ignores_all(process: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        status = Path(f"/proc/{process}/status").read_text()
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
        return int(ignored.split()[1], 16) & 0x7FFBFEFF == 0x7FFBFEFF
    return False


def leaves_an_orphan_to_the_machine(world: World, left_out: LeftOut) -> bool:
    """A daemon does, for the process 1 of the machine to reap, that may not."""
    with built(world, left_out) as zygote, zygote.session(DAEMON) as session:
        return parent_of(_daemon_of(session)) == 1


def leaves_an_orphan_to_the_machine_at_import(world: World, left_out: LeftOut) -> bool:
    """The same of code that is imported."""
    prepare = DAEMON.replace("say('daemon')", "os.write(w, b'x')").replace("hear()", "")
    prepare = f"import os\nr, w = os.pipe()\n{prepare}\nos.read(r, 1)"
    with built(world, left_out, prepare=prepare):
        return any(_ignores_all(p) for p in children_of(1))


# ---------------------------------------------------------------- hurting others


def ends_a_neighbour_by_its_group(world: World, left_out: LeftOut) -> bool:
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as neighbour:
        neighbour.hear()
        held = children_of(neighbour.pid) or [neighbour.pid]
        zygote.run("import os\nos.kill(0, 9)")
        return any(is_ending(process) for process in held)


def ends_its_owners_group_at_import(world: World, left_out: LeftOut) -> bool:
    with bystander(world) as process:
        with built(world, left_out, prepare="import os\nos.kill(0, 9)", wait=False) as zygote:
            zygote.packet()
            with suppress(OSError, SandboxError):  # it may have ended itself
                zygote.packet()
            return is_ending(process)


def slows_a_neighbour_by_its_group(world: World, left_out: LeftOut) -> bool:
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as neighbour:
        neighbour.hear()
        held = children_of(neighbour.pid) or [neighbour.pid]
        zygote.run("import os\nos.setpriority(os.PRIO_PGRP, 0, 19)")
        return any(os.getpriority(os.PRIO_PROCESS, process) == 19 for process in held)


def slows_its_owners_group_at_import(world: World, left_out: LeftOut) -> bool:
    slow = "import os\nos.setpriority(os.PRIO_PGRP, 0, 19)"
    with bystander(world) as process:
        with built(world, left_out, prepare=slow, wait=False) as zygote:
            zygote.packet()
            with suppress(SandboxError):  # a wall may have said no
                zygote.packet()
            return os.getpriority(os.PRIO_PROCESS, process) == 19


def ends_a_neighbour_with_itself(world: World, left_out: LeftOut) -> bool:
    """Its executioner's kill(-1) reaches further than the session."""
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as neighbour:
        neighbour.hear()
        held = children_of(neighbour.pid) or [neighbour.pid]
        with zygote.session(DAEMON) as session:
            session.hear()
            session.kill()
            while not session.is_gone() and not _waits(session.pid):
                pass
        return any(is_ending(process) for process in held)


def ends_a_bystander_with_itself(world: World, left_out: LeftOut) -> bool:
    """The kill(-1) of the launcher, as the owner's user."""
    with bystander(world) as process:
        built(world, left_out).close()
        return is_ending(process)


def is_spared_when_memory_runs_out(world: World, left_out: LeftOut) -> bool:
    with built(world, left_out) as zygote, zygote.session("say('up'); hear()") as session:
        session.hear()
        return Path(f"/proc/{session.pid}/oom_score_adj").read_text().strip() != "1000"


def sees_what_is_mounted_later(world: World, left_out: LeftOut) -> bool:
    """A session does, in a folder that was shown when it began."""
    syscalls.mount(None, "/", None, syscalls.MS_REC | _MS_SHARED)
    look = "say('up'); hear()\nimport os\nos.stat('/opt/shown/late')"
    # not in /tmp, which a launcher without a mount namespace of its own may cover
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shown:
        os.chmod(shown, 0o755)
        zygote = Zygote(
            world.launcher, limits=LIMITS, extra=(Bind(shown, "/opt/shown"),), left_out=left_out
        )
        with zygote, zygote.session(look) as session:
            session.hear()
            syscalls.mount("tmpfs", shown, "tmpfs", 0, "mode=755")
            Path(shown, "late").touch()
            session.say("look")
            worked = session.wait().worked
        syscalls.umount(shown)
    return worked


def learns_a_later_name_of_the_host(world: World, left_out: LeftOut) -> bool:
    with built(world, left_out) as zygote:
        syscalls.sethostname("later")
        return zygote.run("import os\nassert os.uname().nodename == 'later'").worked


def changes_what_its_owner_has_mounted(world: World, left_out: LeftOut) -> bool:
    syscalls.mount(None, "/", None, syscalls.MS_REC | _MS_SHARED)  # as systemd has it
    before = Path("/proc/self/mountinfo").read_text()
    with built(world, left_out):
        return Path("/proc/self/mountinfo").read_text() != before


def reads_a_neighbours_folder(world: World, left_out: LeftOut) -> bool:
    write = "import os\nopen('mine', 'w').close()\nsay(os.getcwd())\nhear()"
    with built(world, left_out) as zygote, zygote.session(write) as neighbour:
        folder = neighbour.hear()
        return zygote.run(f"open('{folder}/mine')").worked


def reads_a_neighbours_file_by_its_group(world: World, left_out: LeftOut) -> bool:
    write = "import os\nos.close(os.open('mine', os.O_CREAT, 0o640))\nsay(os.getcwd())\nhear()"
    with built(world, left_out) as zygote, zygote.session(write) as neighbour:
        folder = neighbour.hear()
        return zygote.run(f"open('{folder}/mine')").worked


def shows_its_sessions_to_anybody(world: World, left_out: LeftOut) -> bool:
    with built(world, left_out) as zygote:
        folder = Path(zygote.launched.folder, "sessions")
        return bool(folder.stat().st_mode & 0o044)


ENDS: dict[str, Callable[[World, LeftOut], bool]] = {
    function.__name__.replace("_", " "): function
    for function in (
        outlives_its_owner,
        outlives_its_owner_before_it_is_built,
        outlives_its_launcher,
        outlives_its_zygote,
        outlives_its_executioner,
        outlives_its_session,
        leaves_an_orphan_to_the_machine,
        leaves_an_orphan_to_the_machine_at_import,
        ends_a_neighbour_by_its_group,
        ends_its_owners_group_at_import,
        slows_a_neighbour_by_its_group,
        slows_its_owners_group_at_import,
        ends_a_neighbour_with_itself,
        ends_a_bystander_with_itself,
        is_spared_when_memory_runs_out,
        sees_what_is_mounted_later,
        learns_a_later_name_of_the_host,
        changes_what_its_owner_has_mounted,
        reads_a_neighbours_folder,
        reads_a_neighbours_file_by_its_group,
        shows_its_sessions_to_anybody,
    )
}
