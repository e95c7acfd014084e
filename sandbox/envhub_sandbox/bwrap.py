"""View to bubblewrap command line. A pure function, so it can be read and tested as data."""

from __future__ import annotations

from collections.abc import Sequence

from .policy import DEVICES, WORKSPACE, View
from .tiers import STRICT, Grade

# Why each flag is here (bwrap(1)):
#   --unshare-user     an error, and not a shrug, where user namespaces are refused
#   --unshare-…        own PIDs, IPC, hostname, view of control groups where there is one
#   --die-with-parent  SIGKILL when the hub goes, however it goes
#   --as-pid-1         the zygote reaps what is orphaned inside, bubblewrap reaps the zygote;
#                      its own init would be left to the machine's
#   --new-session      no TIOCSTI into the hub's terminal (CVE-2017-5226)
#   --cap-drop ALL     the zygote needs none: a new user namespace brings its own
#   --clearenv         the hub's environment holds secrets
ISOLATION = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--die-with-parent",
    "--as-pid-1",
    "--new-session",
    "--cap-drop", "ALL",
    "--clearenv",
)  # fmt: skip
NETWORK = "--unshare-net"  # left out in tier `standard` where the machine refuses it
PROC = ("--proc", "/proc")
HOSTS_PROC = ("--bind", "/proc", "/proc")  # where it is masked, and no other can be had
# empty folders for what each session mounts over them; links as every distribution has them
FOLDERS = (WORKSPACE, "/dev/shm", "/dev/pts")  # noqa: S108
# the zygote's own, for libraries that write a file as they are imported; no session sees it
IMPORTS = "/tmp"  # noqa: S108
LINKS = (
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
)


def arguments(view: View, grade: Grade = STRICT) -> list[str]:
    """Return bubblewrap's arguments for `view`, without the command.

    They are passed by `--args`, for a command line can be read by every user of the host and
    the environment may hold secrets. The root is made read-only last: bubblewrap's own is a
    tmpfs that every session of the zygote would share, and could leave files in. What each
    session covers with files of its own may stay writable for the zygote.
    """
    line = [*ISOLATION, *([NETWORK] if grade.network else [])]
    for name, value in view.environment:
        line += ["--setenv", name, value]
    for folder in ("/dev", *FOLDERS):
        line += ["--dir", folder]
    line += ["--tmpfs", IMPORTS]
    for device in DEVICES:
        line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for target, link in (*LINKS, *view.links):
        line += ["--symlink", target, link]
    for bind in view.ordered():
        line += ["--ro-bind", bind.source, bind.inside]
    for mask in view.masks:
        line += ["--tmpfs", mask, "--remount-ro", mask]
    return [*line, *(PROC if grade.proc else HOSTS_PROC), "--remount-ro", "/"]


def packed(line: Sequence[str]) -> bytes:
    """Return arguments as `--args FD` reads them."""
    return b"".join(argument.encode() + b"\0" for argument in line)
