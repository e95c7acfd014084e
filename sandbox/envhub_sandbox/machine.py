"""Where we are, and what an administrator has to do there for a layer to work.

Settings come first: they are this machine's own word. What kind of container it is, is our
guess from the traces that each leaves.
"""

from __future__ import annotations

import os
import platform
import resource

from .tiers import NAMESPACES

FORK_FIX = "allow more processes: `ulimit -u`, or the container's --pids-limit"
_LOWER = "; or take a lower tier: `--isolation best`"
_UNCOVER = {
    "Docker": "--security-opt systempaths=unconfined",
    "Podman": "--security-opt unmask=ALL",
}


def description(place: str) -> dict[str, str]:
    """Return what a report says of the machine."""
    return {
        "kernel": platform.release(),
        "processor": platform.machine(),
        "user": "root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        "place": place or "no container seen",
    }


def place() -> str:
    """Return the kind of container or virtual machine, "" for none that we know."""
    variables = {
        "KUBERNETES_SERVICE_HOST": "Kubernetes",
        "SPACE_ID": "a Hugging Face Space",
        "GITHUB_ACTIONS": "GitHub Actions",
    }
    for name, found in variables.items():
        if name in os.environ:
            return found
    if os.path.exists("/.dockerenv"):
        return "Docker"
    if os.path.exists("/run/.containerenv"):
        return "Podman"
    return "WSL2" if "microsoft" in platform.release().lower() else ""


def setting(path: str) -> str:
    """Return a sysctl, "" if there is none or it may not be read."""
    try:
        with open(f"/proc/sys/{path}") as file:
            return file.read().strip()
    except OSError:
        return ""


def namespace_fix(place: str, kind: str = "user") -> str:
    """Return how to have namespaces of a kind: user, mnt, pid, ipc, uts or net."""
    where = ", on the host" if place in _UNCOVER or place == "Kubernetes" else ""
    for limited in ("user", kind):
        if setting(f"user/max_{limited}_namespaces") == "0":
            return f"sudo sysctl -w user.max_{limited}_namespaces=63000{where}"
    if setting("kernel/unprivileged_userns_clone") == "0":  # Debian's and Arch's own
        return f"sudo sysctl -w kernel.unprivileged_userns_clone=1{where}"
    if place in _UNCOVER:
        return (
            "a container's default filter forbids namespaces: start it with --security-opt"
            f" seccomp=unconfined --security-opt apparmor=unconfined {_UNCOVER[place]}{_LOWER}"
        )
    if place == "Kubernetes":
        wanted = "hostUsers: false, procMount: Unmasked, seccompProfile.type: Unconfined"
        return f"set {wanted}{_LOWER}"
    if setting("kernel/apparmor_restrict_unprivileged_userns") == "1":  # Ubuntu since 24.04
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if place == "a Hugging Face Space":
        return "a Space has none: take a lower tier, `--isolation best`"
    return f"this kernel, or a filter around us, refuses namespaces{_LOWER}"


def proc_fix(place: str) -> str:
    """Return how to have a /proc of one's own."""
    if place == "Kubernetes":
        return f"set procMount: Unmasked and hostUsers: false{_LOWER}"
    if place in _UNCOVER:
        return f"parts of /proc are masked: start the container with {_UNCOVER[place]}{_LOWER}"
    return f"parts of /proc are covered by other mounts: start envhub where not{_LOWER}"


def fix_for(layer: str) -> str:
    """Return what to do about a layer that failed, "" where nothing is known."""
    here = place()
    if layer in NAMESPACES:
        return namespace_fix(here, NAMESPACES[layer])
    if layer == "/proc of its own":
        return proc_fix(here)
    return ""


def landlock_fix(abi: int, place: str) -> str:
    """Return how to have the Landlock that the tiers without namespaces need."""
    if abi >= 6:
        return ""
    if abi:
        return "its sixth version is in Linux 6.12; `uname -r` is what runs here"
    if place == "WSL2":
        return "leave `landlock` in the lsm= list of kernelCommandLine in .wslconfig"
    return "add `landlock` to lsm= on the kernel's command line; a filter may refuse it, too"


def descriptors() -> tuple[bool, str, str]:
    """Return whether there are enough for a hub, how many, and how to have more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{hard} per process (the hub raises its own limit from {soft})"
    enough = hard >= 4096
    fix = "" if enough else "raise it: `ulimit -Hn 65536`, as root or in limits.conf"
    return enough, detail, fix
