"""What this machine can isolate, found by doing it in throw-away processes.

A setting in /proc says what an administrator wished; only the call says what happens. Each
probe is a child that tries one thing and dies. Then comes the real thing: for each tier a
sandbox, with a session in it in which canaries try to escape.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import canaries, isolate, landlock, launcher, machine, seccomp, syscalls, trial
from .errors import LayerFailed
from .launcher import Launcher
from .probe import attempt
from .tiers import STRICT, VARIANTS, Tier, at_least
from .trial import Trial

LAUNCHERS: tuple[Launcher, ...] = ("bubblewrap", "built-in")


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one probe.

    Args:
        name: what was tried.
        ok: whether it worked.
        detail: what was seen.
        fix: what to do if it did not work, "" if nothing or nothing known.
        needed: strict isolation is impossible without it.
    """

    name: str
    ok: bool
    detail: str
    fix: str = ""
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found.

    Args:
        machine: kernel, processor, user, and the kind of container, if any.
        findings: of single layers, in the order in which they are built.
        trials: of whole tiers, the strongest first.
        free: for each canary what stopped it without a sandbox, "" where nothing did.
    """

    machine: dict[str, str]
    findings: tuple[Finding, ...]
    trials: tuple[Trial, ...]
    free: dict[str, str]

    @property
    def best(self) -> Trial | None:
        """The strongest that works, and holds every canary."""
        return next((t for t in self.trials if t.works and not t.escaped), None)

    @property
    def missing(self) -> tuple[str, ...]:
        """What strict isolation would need and is not there, the first layer first."""
        if self.strict:
            return ()
        layers = [
            finding.name for finding in self.findings if finding.needed and not finding.ok
        ]
        return (*layers, f"strict, {LAUNCHERS[-1]}")  # which needs no program that may lack

    @property
    def strict(self) -> bool:
        """Whether strict isolation works here."""
        return self.reaches("strict")

    @property
    def told(self) -> tuple[Trial, ...]:
        """Return what people want to know: of `strict` all, of each lower tier one."""
        lower: dict[Tier, Trial] = {}
        for tried in self.trials:
            before = lower.get(tried.grade.tier)
            if before is None or (tried.works, tried.launcher == "built-in") > (
                before.works,
                before.launcher == "built-in",
            ):
                lower[tried.grade.tier] = tried
        strict = [t for t in self.trials if t.grade == STRICT]
        return (*strict, *(t for tier, t in lower.items() if tier != "strict"))

    @property
    def proven(self) -> tuple[str, ...]:
        """Canaries that do work without a sandbox: the others prove nothing here."""
        return tuple(name for name, why in self.free.items() if not why)

    def reaches(self, minimum: Tier) -> bool:
        """Whether this machine isolates as well as `minimum`, or better."""
        return self.best is not None and at_least(self.best.grade.tier, minimum)


def examine() -> Report:
    """Probe every layer, and try every tier behind both launchers. Takes some seconds."""
    place = machine.place()
    findings = (
        _tried("user and mount namespaces", _user_namespace, machine.namespace_fix(place)),
        _pid_and_proc(place),
        _tried("network namespace", _network_namespace, machine.namespace_fix(place, "net")),
        _tried("seccomp", _seccomp, "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64"),
        _landlock(place),
        _descriptors(),
    )
    with trial.baited() as bait:
        os.environ[bait["variable"]] = bait["secret"]
        try:
            free = _freely(bait)
            trials = [
                trial.attempt(grade, by, bait)
                for tier, grades in VARIANTS.items()
                for grade in grades
                for by in (LAUNCHERS if grade.namespaces else LAUNCHERS[-1:])
                if tier != "none"
            ]
        finally:
            del os.environ[bait["variable"]]
    return Report(machine.description(place), findings, tuple(trials), free)


def _freely(bait: canaries.Bait) -> dict[str, str]:
    """Let the canaries fly without a sandbox, if we may have processes for it."""
    try:
        return canaries.fly(bait)
    except OSError as error:
        return dict.fromkeys(canaries.CANARIES, f"fork: {error.strerror}")


# ---------------------------------------------------------------- probes in a child


def _tried(name: str, work: Callable[[], None], fix: str) -> Finding:
    try:
        failed = attempt(work, _words)
    except OSError as error:  # no more processes: a finding, too
        return Finding(name, False, f"fork: {error.strerror}", machine.FORK_FIX)
    return Finding(name, not failed, failed or "works", fix if failed else "")


def _words(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, LayerFailed) else f"{type(error).__name__}: {error}"


def _pid_and_proc(place: str) -> Finding:
    """Uncovering /proc is of no use where the namespaces themselves are refused."""
    fix = machine.proc_fix(place)
    found = _tried("pid namespace with its own /proc", _pid_namespace, fix)
    if found.fix != fix or found.detail.startswith("mount"):
        return found
    return replace(found, fix=machine.namespace_fix(place, "pid"))


def _become_user() -> None:
    """Root's own namespaces prove nothing: sandboxes run as another user."""
    if os.geteuid() == 0:
        uid = launcher.spare_uid()
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)


def _user_namespace() -> None:
    _become_user()
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    isolate.map_user(0, uid, gid)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("tmpfs", "/tmp", "tmpfs", 0, "size=1m")  # noqa: S108


def _pid_namespace() -> None:
    _become_user()
    uid, gid = os.getuid(), os.getgid()
    flags = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWPID
    syscalls.unshare(flags)
    isolate.map_user(0, uid, gid)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    child = os.fork()
    if child == 0:
        try:
            syscalls.mount("proc", "/proc", "proc", 0)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        raise OSError(number, f"mount /proc: {os.strerror(number)}")


def _network_namespace() -> None:
    _become_user()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET)


def _seccomp() -> None:
    seccomp.require_known_machine()
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.session_filter(STRICT).install()


# ---------------------------------------------------------------- the rest


def _landlock(place: str) -> Finding:
    abi = landlock.version()
    detail = f"version {abi}" if abi else "not there; strict and standard stand without it"
    return Finding("landlock", abi >= 6, detail, machine.landlock_fix(abi, place), needed=False)


def _descriptors() -> Finding:
    enough, detail, fix = machine.descriptors()
    return Finding("descriptors", enough, detail, fix, needed=False)
