"""The zygote: a warm process inside the outer sandbox that forks isolated session processes.

It speaks with its owner over a SOCK_SEQPACKET socket, one JSON object in a packet:

    owner  → zygote   id                               fork; with the session's descriptors
                      ping                             is it there?
    zygote → owner    {"nests": true}                  once: it can build session namespaces
                      {"ready": {…}}                   once: `prepare` returned, with its answer
                      {"failed": {…}}                  once, instead: it could not, and ends
                      {"pong": true}                   the answer to a ping
                      {"forked": id}                   with a pidfd
                      {"refused": id, "why": text}     instead of "forked"
                      {"ended": id, "status": n, "cpu_s": x, "peak_bytes": n}   after reaping

The forked child isolates itself, says how that went on its first descriptor (one frame: u32
length, then JSON), and hands the rest to `begin`. The zygote never sees what sessions say.
Single-threaded by necessity: a fork of a process with threads inherits locks that nobody
will release. Sparing by design: of each page that it writes between two forks, the child
before keeps the old copy for itself. It is pid 1 of the outer sandbox: what is orphaned there
is its to reap, and signals from inside that it does not handle do not reach it.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import dense, executioner, fenced, isolate, landlock, plan, seccomp, selftest, syscalls
from .errors import LayerFailed
from .plan import Plan
from .policy import Limits
from .tiers import Ground

MAX_DESCRIPTORS = 4
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_TAIL = 16 * 1024  # of a traceback; it must fit into a packet
_MAX_REQUEST = 32
_GONE_S = 0.5
_MOST_PLANS = 16  # kept; one is enough while descriptors come with the same numbers
_INT = struct.Struct("i")
# formatted and not encoded: between two forks every object that is touched costs a session
_PING, _PONG = b"ping", b'{"pong": true}'
_FORKED = b'{"forked": %d}'
_ENDED = b'{"ended": %d, "status": %d, "cpu_s": %.6f, "peak_bytes": %d}'
_TASKS = "/proc/self/task"
_NO_DESCRIPTOR = 2**31 - 2  # the last of all; no limit lets anybody have it
FIRST = 3  # where a session process finds its descriptors

Begin = Callable[[list[int]], None]
Prepare = Callable[[], dict[str, Any]]


def run(
    control: socket.socket, ground: Ground, *, prepare: Prepare, begin: Begin, limits: Limits
) -> NoReturn:
    """Prepare once, then fork on request until the owner hangs up.

    Args:
        control: the socket to the owner.
        ground: what the launcher built, and how sessions are to be isolated.
        prepare: imports what sessions need and returns what the owner should know.
        begin: runs in each forked child, isolated, with its descriptors; never returns to us.
        limits: of each session.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an owner that ignores it bequeaths that
    zygote = _Zygote(control, ground, begin, limits)
    try:
        landlock.open_input()
        syscalls.rehearse_fork()  # now: hooks that the author's module registers are for forks
        zygote.check_that_it_nests()
        control.send(_packet(nests=True))
        answer, threads = _prepare_restricted(ground, prepare)
        if threads > 1:
            raise RuntimeError(
                f"importing it started {threads - 1} thread(s), and a process with threads"
                " cannot be forked; start them in __init__ or reset instead"
            )
        _rehearse()
        gc.collect()
        dense.fill()
        gc.disable()
        gc.freeze()  # a collection in a child would copy every page of the heap
        control.send(_packet(ready=answer))
    except LayerFailed as error:
        failed = {"layer": error.layer, "what": error.what, "errno": error.number}
        control.send(_packet(failed={**failed, "hint": error.hint}))
        os._exit(1)
    except BaseException as error:  # the author's module may raise anything, SystemExit too
        text = traceback.format_exc()[-_TAIL:]
        message = f"{type(error).__name__}: {error}"[:_TAIL]
        control.send(_packet(failed={"message": message, "traceback": text}))
        os._exit(1)
    zygote.loop()


def _prepare_restricted(ground: Ground, prepare: Prepare) -> tuple[dict[str, Any], int]:
    """Return what `prepare` returned, and how many threads there are then."""
    tasks: int | str = _TASKS
    if ground.grade.fenced:  # it can be opened now, and not behind Landlock
        tasks = os.open(_TASKS, os.O_RDONLY | os.O_CLOEXEC)
    _restrict(ground)
    answer = prepare()
    until = time.monotonic() + _GONE_S
    # a thread that was joined is the kernel's for a moment more
    while (threads := len(os.listdir(tasks))) > 1 and time.monotonic() < until:
        os.sched_yield()
    if isinstance(tasks, int):
        os.close(tasks)
    return answer, threads


def _restrict(ground: Ground) -> None:
    """Wall in the zygote itself: code that an author runs at import is not trusted either.

    Raises:
        LayerFailed: it could not be.
    """
    if ground.grade.tier == "none":
        return
    filter_ = seccomp.zygote_filter(ground)
    with fenced.free_descriptors() as free:
        made = plan.Making(free)
        made.layer = "no new privileges"
        made.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        if not ground.grade.namespaces:
            fenced.files(made, ground, ground.folder)
        made.layer = "seccomp"
        made.call("seccomp", 1, 0, filter_)
        made.plan().run()


@dataclass(frozen=True, slots=True)
class _Isolation:
    """How a child is isolated, and what it says when it is.

    Args:
        mine: the descriptors that the child will have.
        free: the first that it will not have.
        moves: brings them to their places.
        inner: of the session's process.
        hello: its first frame.
        outer: of its executioner, where it has one.
        folder: of its own, where there is no mount namespace.
    """

    mine: tuple[int, ...]
    free: int
    moves: Plan
    inner: Plan
    hello: bytes
    outer: Plan | None = None
    folder: str = ""


class _Zygote:
    def __init__(
        self, control: socket.socket, ground: Ground, begin: Begin, limits: Limits
    ) -> None:
        self._control = control
        self._ground = ground
        self._begin = begin
        self._limits = limits
        self._sessions: dict[int, int] = {}
        self._folders: dict[int, str] = {}
        self._forks = 0
        self._plans: dict[tuple[int, ...], _Isolation] = {}
        self._uid, self._gid = os.getuid(), os.getgid()
        grade = ground.grade
        self._namespaces = isolate.namespaces(grade) if grade.namespaces else 0
        if grade.tier != "none":
            seccomp.require_known_machine()
            self._filter = seccomp.session_filter(grade)
        if grade.namespaces:
            self._below_tmp = isolate.mounts_below_tmp()
            self._links_below_tmp = isolate.links_below_tmp(self._below_tmp)

    def check_that_it_nests(self) -> None:
        """Isolate one throw-away child, and try in it what a raw clone could have broken.

        Raises:
            LayerFailed: what failed in the child.
        """
        ours, theirs = socket.socketpair()
        try:
            pid, pidfd = self._fork((theirs.fileno(),), selftest.run)
        except OSError as error:
            what = str(error.strerror or error)
            raise LayerFailed(self._refused(), what, error.errno or 0) from error
        os.close(pidfd)
        theirs.close()
        with ours:
            report = ours.makefile("rb").read()
        os.waitpid(pid, 0)
        self._forget_folder(pid)
        length = int.from_bytes(report[:4], "big") if len(report) >= 4 else 0
        said = json.loads(report[4 : 4 + length] or b"{}")
        if "failed" in said:
            raise LayerFailed(*said["failed"])
        if report[4 + length :] != b"ok":
            tail = report[4 + length :].decode(errors="replace") or "it said nothing"
            raise LayerFailed("fork", f"a cloned child does not work: {tail}")

    def _refused(self) -> str:
        """Return which namespace the kernel would not make: one call makes them all."""
        asked = syscalls.CLONE_NEWUSER
        for layer, flag in isolate.NAMESPACES_BY_NAME.items():
            asked |= flag & self._namespaces
            try:
                pid, pidfd = syscalls.fork(asked)
            except OSError:
                return layer
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
            os.close(pidfd)
        return "user namespace"

    def loop(self) -> NoReturn:
        """Fork and reap until the owner hangs up."""
        # an author's module may have set its own; and a handler of ours would have to be undone
        # in each child, which costs it thirty pages
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        ended = syscalls.signalfd(1 << (signal.SIGCHLD - 1))
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(ended, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == ended:
                    os.read(ended, 4096)
                    self._reap()
                else:
                    self._answer()

    def _answer(self) -> None:
        try:
            data, ancillary, _, _ = self._control.recvmsg(_MAX_REQUEST, _ANCILLARY)
        except ConnectionResetError:
            os._exit(0)
        if not data:
            os._exit(0)  # the owner is gone, or is done with us
        if data == _PING:
            self._control.send(_PONG)
            return
        session = int(data)
        descriptors = tuple(memoryview(ancillary[0][2]).cast("i")) if ancillary else ()
        try:
            self._fork_session(session, descriptors)
        except OSError as error:
            self._control.send(_packet(refused=session, why=str(error)))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork_session(self, session: int, descriptors: tuple[int, ...]) -> None:
        pid, pidfd = self._fork(descriptors, self._begin)
        self._sessions[pid] = session
        handed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, _INT.pack(pidfd))
        self._control.sendmsg([_FORKED % session], [handed])
        os.close(pidfd)

    def _fork(self, descriptors: tuple[int, ...], begin: Begin) -> tuple[int, int]:
        isolation = self._plans.get(descriptors) or self._isolation(descriptors)
        pid, pidfd = syscalls.fork(self._namespaces)
        if pid == 0:
            self._become_session(isolation, begin)
        if isolation.folder:
            self._folders[pid] = isolation.folder
        return pid, pidfd

    def _become_session(self, isolation: _Isolation, begin: Begin) -> NoReturn:
        try:
            isolation.moves.run()
            try:
                mine = _walled_in(isolation)
            except LayerFailed as error:
                failed = [error.layer, error.what, error.number]
                os.write(FIRST, _frame({"failed": failed}))
                os._exit(1)
            begin(mine)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _isolation(self, descriptors: tuple[int, ...]) -> _Isolation:
        """Return how a child that is handed these is isolated; made before a fork.

        Once, where it can be: descriptors have the same numbers each time, the lowest that
        are free. Where each session has a folder of its own, each has its own plan.
        """
        mine = tuple(range(FIRST, FIRST + len(descriptors)))
        free = FIRST + len(descriptors)
        moves = plan.moves(descriptors, FIRST)
        if self._ground.grade.fenced:
            self._forks += 1
            folder, outer = fenced.outer_plan(self._ground, self._forks, free=free)
            inner = fenced.inner_plan(self._limits, self._ground, self._filter, free=free)
            hello = _frame({"layers": [*outer.layers(), *inner.layers()]})
            return _Isolation(mine, free, moves, inner, hello, outer, folder)
        if len(self._plans) == _MOST_PLANS:
            self._plans.clear()
        inner = self._plan(free)
        hello = _frame({"layers": inner.layers(self._namespaces)})
        self._plans[descriptors] = _Isolation(mine, free, moves, inner, hello)
        return self._plans[descriptors]

    def _plan(self, free: int) -> Plan:
        if not self._ground.grade.namespaces:
            return plan.bare(self._limits, free=free)
        return isolate.plan(
            self._limits,
            self._ground.grade,
            uid=self._uid,
            gid=self._gid,
            free=free,
            shown_below_tmp=self._below_tmp,
            links_below_tmp=self._links_below_tmp,
            filter_=self._filter,
        )

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._forget_folder(pid)
            session = self._sessions.pop(pid, None)
            if session is not None:
                cpu_s = used.ru_utime + used.ru_stime
                said = (session, status, cpu_s, used.ru_maxrss * 1024)
                self._control.send(_ENDED % said)

    def _forget_folder(self, pid: int) -> None:
        """Remove the folder that an executioner has emptied; only we may."""
        folder = self._folders.pop(pid, "")
        try:
            if folder:
                os.rmdir(folder)
        except OSError:
            pass  # it was never made, or goes with the sandbox


def _walled_in(isolation: _Isolation) -> list[int]:
    """Return the descriptors of this child when it is isolated, and has said so."""
    mine = list(isolation.mine)
    syscalls.close_from(isolation.free)
    if isolation.outer:
        _leave_an_executioner(isolation.outer, isolation.folder)
    isolation.inner.run()
    os.write(mine[0], isolation.hello)
    gc.enable()
    return mine


def _rehearse() -> None:
    """Wall in nobody, until that is routine: code that is new writes to itself."""
    nothing = plan.harmless()
    isolation = _Isolation((1,), _NO_DESCRIPTOR, nothing, nothing, b"")
    for _ in range(syscalls.REHEARSALS):
        isolation.moves.run()
        _walled_in(isolation)


def _leave_an_executioner(outer: Plan, folder: str) -> None:
    """Return in a child of this process, which becomes the child's executioner."""
    executioner.prepare()
    outer.run()
    child = executioner.fork()
    if child:
        executioner.watch(child, folder)
    os.environ.update(fenced.variables(folder))


def _packet(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _frame(what: dict[str, object]) -> bytes:
    """Return the first frame of a session: how its isolation went."""
    data = json.dumps(what).encode()
    return struct.pack(">I", len(data)) + data
