"""The zygote: a warm process inside the outer sandbox that forks isolated session processes.

It speaks with its owner over a SOCK_SEQPACKET socket, one JSON object in a packet:

    owner  → zygote   id                               fork; with the session's descriptors
    zygote → owner    {"nests": true}                  once: it can build session namespaces
                      {"ready": {…}}                   once: `prepare` returned, with its answer
                      {"failed": {…}}                  once, instead: it could not, and ends
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
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from . import dense, isolate, seccomp, syscalls
from .calls import Plan
from .errors import LayerFailed
from .policy import Limits

MAX_DESCRIPTORS = 4
_ANCILLARY = socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
_TAIL = 16 * 1024  # of a traceback; it must fit into a packet
_MAX_REQUEST = 32
_MOST_PLANS = 16  # kept; one is enough while descriptors come with the same numbers
_INT = struct.Struct("i")
# formatted and not encoded: between two forks every object that is touched costs a session
_FORKED = b'{"forked": %d}'
_ENDED = b'{"ended": %d, "status": %d, "cpu_s": %.6f, "peak_bytes": %d}'
FIRST = 3  # where a session process finds its descriptors

Begin = Callable[[list[int]], None]
Prepare = Callable[[], dict[str, Any]]


def run(
    control: socket.socket, *, prepare: Prepare, begin: Begin, limits: Limits, strict: bool
) -> NoReturn:
    """Prepare once, then fork on request until the owner hangs up.

    Args:
        control: the socket to the owner.
        prepare: imports what sessions need and returns what the owner should know.
        begin: runs in each forked child, isolated, with its descriptors; never returns to us.
        limits: of each session.
        strict: False builds no namespace and no filter; rlimits stay.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an owner that ignores it bequeaths that
    zygote = _Zygote(control, begin, limits, strict=strict)
    try:
        _open_input()
        syscalls.rehearse_fork()  # now: hooks that the author's module registers are for forks
        zygote.check_that_it_nests()
        control.send(_packet(nests=True))
        if strict:
            isolate.restrict_zygote(seccomp.zygote_filter())
        answer = prepare()
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(
                f"importing it started {threads - 1} thread(s), and a process with threads"
                " cannot be forked; start them in __init__ or reset instead"
            )
        isolate.rehearse()
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


@dataclass(frozen=True, slots=True)
class _Isolation:
    """How a child is isolated, and what it says when it is."""

    mine: tuple[int, ...]
    moves: Plan
    plan: Plan
    hello: bytes


class _Zygote:
    def __init__(
        self, control: socket.socket, begin: Begin, limits: Limits, *, strict: bool
    ) -> None:
        self._control = control
        self._begin = begin
        self._limits = limits
        self._strict = strict
        self._namespaces = isolate.NAMESPACES if strict else 0
        self._sessions: dict[int, int] = {}
        self._plans: dict[tuple[int, ...], _Isolation] = {}
        self._uid, self._gid = os.getuid(), os.getgid()
        if strict:
            seccomp.require_known_machine()
            self._filter = seccomp.session_filter()
            self._below_tmp = isolate.mounts_below_tmp()
            self._links_below_tmp = isolate.links_below_tmp(self._below_tmp)

    def check_that_it_nests(self) -> None:
        """Isolate one throw-away child, and try in it what a raw clone could have broken.

        Raises:
            LayerFailed: what failed in the child.
        """
        ours, theirs = socket.socketpair()
        try:
            pid, pidfd = self._fork((theirs.fileno(),), _self_test)
        except OSError as error:
            what = str(error.strerror or error)
            raise LayerFailed("user namespace", what, error.errno or 0) from error
        os.close(pidfd)
        theirs.close()
        with ours:
            report = ours.makefile("rb").read()
        os.waitpid(pid, 0)
        length = int.from_bytes(report[:4], "big") if len(report) >= 4 else 0
        said = json.loads(report[4 : 4 + length] or b"{}")
        if "failed" in said:
            raise LayerFailed(*said["failed"])
        if report[4 + length :] != b"ok":
            tail = report[4 + length :].decode(errors="replace") or "it said nothing"
            raise LayerFailed("fork", f"a cloned child does not work: {tail}")

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
        isolation = self._plans.get(descriptors) or self._plan_for(descriptors)
        pid, pidfd = syscalls.fork(self._namespaces)
        if pid == 0:
            self._become_session(isolation, begin)
        return pid, pidfd

    def _become_session(self, isolation: _Isolation, begin: Begin) -> NoReturn:
        try:
            isolate.run(isolation.moves)
            mine = list(isolation.mine)
            syscalls.close_from(FIRST + len(mine))
            try:
                isolate.run(isolation.plan)
            except LayerFailed as error:
                failed = [error.layer, error.what, error.number]
                os.write(mine[0], _frame({"failed": failed}))
                os._exit(1)
            os.write(mine[0], isolation.hello)
            gc.enable()
            begin(mine)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(1)

    def _plan_for(self, descriptors: tuple[int, ...]) -> _Isolation:
        """Return how a child that is handed these is isolated; made once, before a fork.

        They have the same numbers each time: the lowest that are free.
        """
        if len(self._plans) == _MOST_PLANS:
            self._plans.clear()
        mine = tuple(range(FIRST, FIRST + len(descriptors)))
        free = FIRST + len(descriptors)
        plan = isolate.bare_plan(self._limits, free=free)
        if self._strict:
            plan = isolate.plan(
                self._limits,
                uid=self._uid,
                gid=self._gid,
                free=free,
                shown_below_tmp=self._below_tmp,
                links_below_tmp=self._links_below_tmp,
                filter_=self._filter,
            )
        built = isolate.layers(plan.calls, self._namespaces)
        moves = isolate.moves(descriptors, FIRST)
        made = _Isolation(mine, moves, plan, _frame({"layers": built}))
        self._plans[descriptors] = made
        return made

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            session = self._sessions.pop(pid, None)
            if session is not None:
                cpu_s = used.ru_utime + used.ru_stime
                said = (session, status, cpu_s, used.ru_maxrss * 1024)
                self._control.send(_ENDED % said)


def _open_input() -> None:
    """Make descriptor 0 the sandbox's own /dev/null: Landlock refuses /dev/stdin on another."""
    own = os.open(os.devnull, os.O_RDONLY)
    os.dup2(own, 0)
    os.close(own)


def _packet(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def _frame(what: dict[str, object]) -> bytes:
    """Return the first frame of a session: how its isolation went."""
    data = json.dumps(what).encode()
    return struct.pack(">I", len(data)) + data


def _self_test(descriptors: list[int]) -> None:
    """Try threads, signals, fork and exec in a cloned child; say "ok"."""
    import subprocess
    import threading

    try:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        signal.pthread_kill(threading.main_thread().ident or 0, 0)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        word = b"ok"
    except Exception as error:
        word = f"{type(error).__name__}: {error}".encode()
    os.write(descriptors[0], word)
