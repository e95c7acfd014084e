"""The zygote: a warm process inside the outer sandbox that forks isolated session processes.

It speaks with its owner over a SOCK_SEQPACKET socket, one JSON object in a packet:

    owner  → zygote   {"fork": id}                     with the session's descriptors
    zygote → owner    {"nests": true}                  once: it can build session namespaces
                      {"ready": {…}}                   once: `prepare` returned, with its answer
                      {"failed": {…}}                  once, instead: it could not, and ends
                      {"forked": id}                   with a pidfd
                      {"refused": id, "why": text}     instead of "forked"
                      {"ended": id, "status": n, "cpu_s": x, "peak_bytes": n}   after reaping

The forked child isolates itself, says how that went on its first descriptor (one frame: u32
length, then JSON), and hands the rest to `begin`. The zygote never sees what sessions say.
Single-threaded by necessity: a fork of a process with threads inherits locks that nobody
will release. It is pid 1 of the outer sandbox: what is orphaned there is its to reap, and
signals from inside that it does not handle do not reach it.
"""

from __future__ import annotations

import fcntl
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

from . import isolate, seccomp, syscalls
from .errors import LayerFailed
from .policy import Limits

MAX_PACKET = 64 * 1024
MAX_DESCRIPTORS = 4
_TAIL = 16 * 1024  # of a traceback; it must fit into a packet
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
        gc.collect()
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

    calls: list[isolate.Call]
    hello: bytes


class _Zygote:
    def __init__(
        self, control: socket.socket, begin: Begin, limits: Limits, *, strict: bool
    ) -> None:
        self._control = control
        self._begin = begin
        self._limits = limits
        self._strict = strict
        self._sessions: dict[int, int] = {}
        self._plans: dict[int, _Isolation] = {}
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
            pid = self._fork([theirs.fileno()], _self_test)
        except OSError as error:
            what = str(error.strerror or error)
            raise LayerFailed("user namespace", what, error.errno or 0) from error
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
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor == woken:
                    os.read(woken, 4096)
                    self._reap()
                else:
                    self._answer()

    def _answer(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._control, MAX_PACKET, MAX_DESCRIPTORS
            )
        except ConnectionResetError:
            os._exit(0)
        if not data:
            os._exit(0)  # the owner is gone, or is done with us
        session = json.loads(data)["fork"]
        try:
            self._fork_session(session, descriptors)
        except OSError as error:
            self._control.send(_packet(refused=session, why=str(error)))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _fork_session(self, session: int, descriptors: list[int]) -> None:
        pidfd = -1

        def note(pid: int, descriptor: int) -> None:
            nonlocal pidfd
            self._sessions[pid] = session
            pidfd = descriptor

        self._fork(descriptors, self._begin, note)
        socket.send_fds(self._control, [_packet(forked=session)], [pidfd])
        os.close(pidfd)

    def _fork(
        self,
        descriptors: list[int],
        begin: Begin,
        note: Callable[[int, int], None] = lambda pid, pidfd: os.close(pidfd),
    ) -> int:
        isolation = self._plan_for(len(descriptors))
        pid, pidfd = syscalls.fork(isolate.NAMESPACES if self._strict else 0)
        if pid == 0:
            self._become_session(isolation, descriptors, begin)
        note(pid, pidfd)
        return pid

    def _become_session(
        self, isolation: _Isolation, descriptors: list[int], begin: Begin
    ) -> NoReturn:
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            mine = _take_only(descriptors)
            try:
                isolate.run(isolation.calls)
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

    def _plan_for(self, descriptors: int) -> _Isolation:
        """Return how a child with so many descriptors is isolated; made once, before a fork."""
        if descriptors not in self._plans:
            free = FIRST + descriptors
            calls = isolate.bare_plan(self._limits, free=free)
            if self._strict:
                calls = isolate.plan(
                    self._limits,
                    uid=self._uid,
                    gid=self._gid,
                    free=free,
                    shown_below_tmp=self._below_tmp,
                    links_below_tmp=self._links_below_tmp,
                    filter_=self._filter,
                )
            built = isolate.layers(calls, isolate.NAMESPACES if self._strict else 0)
            self._plans[descriptors] = _Isolation(calls, _frame({"layers": built}))
        return self._plans[descriptors]

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
                cpu_s = round(used.ru_utime + used.ru_stime, 6)
                peak = used.ru_maxrss * 1024
                self._control.send(
                    _packet(ended=session, status=status, cpu_s=cpu_s, peak_bytes=peak)
                )


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


def _take_only(descriptors: list[int]) -> list[int]:
    """Move the session's descriptors to FIRST…, close all others, and return the new ones.

    The second one, if there is one, is the session's output: it becomes stdout and stderr.
    """
    above = FIRST + MAX_DESCRIPTORS
    high = [fcntl.fcntl(d, fcntl.F_DUPFD_CLOEXEC, above) for d in descriptors]
    mine = [os.dup2(d, FIRST + at, inheritable=False) for at, d in enumerate(high)]
    if len(mine) > 1:
        os.dup2(mine[1], 1)
        os.dup2(mine[1], 2)
    syscalls.close_from(FIRST + len(mine))
    return mine


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
