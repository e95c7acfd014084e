"""What this machine can isolate, found by doing it in throw-away processes.

A setting in /proc says what an administrator wished; only the call says what happens. Each
probe is a child that tries one thing and dies. The last ones are the real thing: a zygote
behind each launcher that isolates a session.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import isolate, landlock, launcher, seccomp, shown, syscalls
from .errors import LaunchFailed, LayerFailed, SandboxError
from .launcher import Launcher
from .policy import Bind, View, joined

_START_S = 20.0
_UNCOVER = {
    "Docker": "--security-opt systempaths=unconfined",
    "Podman": "--security-opt unmask=ALL",
}
_FORK_FIX = "allow more processes: `ulimit -u`, or the container's --pids-limit"
LAUNCHERS: tuple[Launcher, ...] = ("bubblewrap", "built-in")
_ZYGOTE = """
import sys, socket
sys.path.insert(0, "/opt/envhub")
from envhub_sandbox import zygote
from envhub_sandbox.policy import Limits
zygote.run(socket.socket(fileno=int(sys.argv[1])), prepare=dict, begin=print,
           limits=Limits(), strict=True)
"""


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
        findings: in the order in which the layers are built.
        launchers: those that isolate a session here.
    """

    machine: dict[str, str]
    findings: tuple[Finding, ...]
    launchers: tuple[Launcher, ...]

    @property
    def strict(self) -> bool:
        """Whether strict isolation works here."""
        return bool(self.launchers)


def examine() -> Report:
    """Probe every layer and both launchers. Takes about a second."""
    container = _container()
    findings = [
        _tried("user and mount namespaces", _user_namespace, _namespace_fix(container)),
        _pid_and_proc(container),
        _tried("network namespace", _network_namespace, _namespace_fix(container)),
        _tried("seccomp", _seccomp, "use a kernel with CONFIG_SECCOMP_FILTER, on x86-64"),
        _landlock(),
        _descriptors(),
    ]
    launchers: list[Launcher] = []
    for choice in LAUNCHERS:
        finding = _launcher(choice)
        findings.append(finding)
        if finding.ok:
            launchers.append(choice)
    machine = {
        "kernel": platform.release(),
        "processor": platform.machine(),
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "container": container or "none seen",
    }
    return Report(machine, tuple(findings), tuple(launchers))


# ---------------------------------------------------------------- probes in a child


def _tried(name: str, work: Callable[[], None], fix: str) -> Finding:
    read, write = os.pipe()
    try:
        child = os.fork()
    except OSError as error:  # no more processes: a finding, too
        os.close(read)
        os.close(write)
        return Finding(name, False, f"fork: {error.strerror}", _FORK_FIX)
    if child == 0:
        try:
            work()
            said = "works"
        except LayerFailed as error:
            said = f"!{error}"
        except OSError as error:
            said = f"!{error.strerror or error}"
        except BaseException as error:
            said = f"!{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace") or "!the probe died"
    os.waitpid(child, 0)
    ok = not said.startswith("!")
    return Finding(name, ok, said.removeprefix("!"), "" if ok else fix)


def _pid_and_proc(container: str) -> Finding:
    """Uncovering /proc is of no use where the namespaces themselves are refused."""
    found = _tried("pid namespace with its own /proc", _pid_namespace, _proc_fix(container))
    if found.ok or found.fix == _FORK_FIX or found.detail.startswith("mount"):
        return found
    return replace(found, fix=_namespace_fix(container))


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
    seccomp.session_filter().install()


# ---------------------------------------------------------------- the rest


def _landlock() -> Finding:
    abi = landlock.version()
    detail = (
        f"version {abi}" if abi else "not in this kernel; the other layers stand without it"
    )
    return Finding("landlock", bool(abi), detail, needed=False)


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{hard} per process (the hub raises its own limit from {soft})"
    fix = "" if hard >= 4096 else "raise it: `ulimit -Hn 65536`, as root or in limits.conf"
    return Finding("descriptors", hard >= 4096, detail, fix, needed=False)


def _launcher(choice: Launcher) -> Finding:
    """Start a zygote behind it, and let that isolate a throw-away session."""
    here = Bind(os.path.dirname(os.path.abspath(__file__)), "/opt/envhub/envhub_sandbox")
    own = View((here,), environment=(("PATH", "/usr/bin:/bin"),))
    view = joined(shown.system(), shown.interpreter(packages=False), own)
    command = [shown.program(), "-I", "-S", "-B", "-c", _ZYGOTE, "{control}"]
    name = f"strict isolation with {choice}"
    started = time.monotonic()
    try:
        launched = launcher.launch(view, command, choice)
    except LaunchFailed as error:
        return Finding(name, False, str(error), error.hint, needed=False)
    except OSError as error:  # no more processes, or an interpreter that we may not run again
        what = f"{error.strerror or error} {error.filename or ''}".strip()
        return Finding(name, False, f"launcher: {what}", _launcher_fix(choice))
    try:
        launched.control.settimeout(_START_S)
        said, hint = _first_word(launched.control)
        if said:
            raise LaunchFailed(said, hint=hint)
    except (SandboxError, OSError) as error:
        fix = getattr(error, "hint", "") or _launcher_fix(choice)
        return Finding(name, False, str(error) or "it said nothing", fix)
    finally:
        launched.kill()
    took_ms = (time.monotonic() - started) * 1000
    return Finding(name, True, f"a session was isolated; the first took {took_ms:.0f} ms")


def _first_word(control: socket.socket) -> tuple[str, str]:
    """Return why the zygote cannot isolate sessions, "" if it can, and what to do about it."""
    data = control.recv(64 * 1024)
    said = json.loads(data) if data else {}
    if said.get("nests"):
        return "", ""
    failed = said.get("failed", {})
    why = f"{failed.get('layer', 'launcher')}: {failed.get('what', 'it ended at once')}"
    return why, failed.get("hint", "")


def _container() -> str:
    if os.path.exists("/.dockerenv"):
        return "Docker"
    if os.path.exists("/run/.containerenv"):
        return "Podman"
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "Kubernetes"
    if "microsoft" in platform.release().lower():
        return "WSL2"
    return "GitHub Actions" if "GITHUB_ACTIONS" in os.environ else ""


def _setting(path: str) -> str:
    try:
        with open(f"/proc/sys/{path}") as file:
            return file.read().strip()
    except OSError:
        return ""


def _namespace_fix(container: str) -> str:
    """Settings first: they are this machine's own word, a container is our guess."""
    for kind in ("user", "mnt", "pid", "ipc", "uts", "net"):
        if _setting(f"user/max_{kind}_namespaces") == "0":
            return f"sudo sysctl -w user.max_{kind}_namespaces=63000"
    if _setting("kernel/unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting("kernel/apparmor_restrict_unprivileged_userns") == "1" and not container:
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if container in ("Docker", "Podman"):
        return (
            "a container's default filter forbids namespaces: start it with"
            " --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
            f" {_UNCOVER[container]}"
        )
    if container == "Kubernetes":
        return "set hostUsers: false, procMount: Unmasked, seccompProfile: Unconfined"
    return "this kernel refuses user namespaces to this user"


def _proc_fix(container: str) -> str:
    if container == "Kubernetes":
        return "set procMount: Unmasked and hostUsers: false"
    if container in _UNCOVER:
        return f"the container masks parts of /proc: start it with {_UNCOVER[container]}"
    return "parts of /proc are covered by other mounts; start envhub where they are not"


def _launcher_fix(choice: Launcher) -> str:
    if choice == "bubblewrap":
        return "none needed where the built-in launcher works: it is taken instead"
    return "see the first layer above that does not work"
