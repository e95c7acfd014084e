"""The outer sandbox, in which a zygote imports what it is told to: the author's code."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import psutil
import pytest

from envhub_sandbox import Launcher
from tests.sandbox.alone import ENVIRONMENT, Zygote

CAPABILITIES = ("Eff", "Prm", "Inh", "Amb", "Bnd")
LOOK = """
import json, os
with open("/proc/self/status") as file:
    status = dict(line.rstrip().split(":", 1) for line in file)
with open("/proc/self/stat") as file:
    terminal = int(file.read().rpartition(")")[2].split()[4])
with open("/proc/self/mountinfo") as file:
    mounts = {line.split()[4]: line.split()[5].split(",") for line in file}
print(json.dumps({
    "environment": dict(os.environ), "status": status, "terminal": terminal,
    "session": os.getsid(0), "pid": os.getpid(), "mounts": mounts, "root": os.listdir("/"),
    "processes": [name for name in os.listdir("/proc") if name.isdigit()],
}), flush=True)
"""


@pytest.fixture(scope="module")
def outer(launcher: Launcher) -> dict[str, Any]:
    """What the code of a zygote sees of itself."""
    with Zygote(launcher, prepare=LOOK) as zygote:
        found: dict[str, Any] = json.loads(zygote.output())
    return found


def test_a_zygote_has_the_environment_variables_of_its_view(outer: dict[str, Any]) -> None:
    """And those that the shell's own programs always set."""
    assert set(outer["environment"]) - {"PWD", "LC_CTYPE"} == set(ENVIRONMENT)


def test_a_zygote_has_no_capability_and_cannot_gain_a_privilege(outer: dict[str, Any]) -> None:
    held = {name: int(outer["status"][f"Cap{name}"], 16) for name in CAPABILITIES}

    assert held == dict.fromkeys(CAPABILITIES, 0)
    assert outer["status"]["NoNewPrivs"].strip() == "1"
    assert outer["status"]["Seccomp"].strip() == "2"


def test_a_zygote_has_no_terminal_and_a_session_of_its_own(outer: dict[str, Any]) -> None:
    assert outer["terminal"] == 0
    assert outer["session"] == outer["pid"]


def test_a_zygote_sees_itself_and_who_waits_for_it_and_no_other(outer: dict[str, Any]) -> None:
    assert set(outer["processes"]) <= {"1", str(outer["pid"])}


def test_what_a_zygote_sees_is_read_only(outer: dict[str, Any]) -> None:
    """But for devices, which are none of storage, /proc, where nothing is its own, and /tmp.

    That is for libraries that write a file as they are imported; no session sees it.
    """
    writable = {path for path, options in outer["mounts"].items() if "ro" not in options}

    assert {path for path in writable if not path.startswith("/dev/")} <= {"/proc", "/tmp"}


def test_the_root_of_a_zygote_holds_what_its_view_shows(outer: dict[str, Any]) -> None:
    ordinary = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "dev", "proc",
                "tmp", "opt", "workspace"}  # fmt: skip
    # the interpreter may stand below a home
    python = os.path.realpath(sys.base_prefix).split("/")[1]

    assert set(outer["root"]) <= {*ordinary, python}


def test_a_zygote_shares_no_namespace_with_its_owner(launcher: Launcher) -> None:
    with Zygote(launcher) as zygote:
        with zygote.session("hear()") as session:
            parent = psutil.Process(session.pid).ppid()
            kinds = ("user", "mnt", "pid", "ipc", "uts", "net", "cgroup")
            shared = [
                kind
                for kind in kinds
                if os.readlink(f"/proc/{parent}/ns/{kind}")
                == os.readlink(f"/proc/self/ns/{kind}")
            ]

    assert shared == []


def test_a_zygote_cannot_write_or_mount_over_what_it_sees(launcher: Launcher) -> None:
    """It may build namespaces, for its sessions; in them its own mounts are locked."""
    attempt = """
import os
import sys
uid, gid = os.getuid(), os.getgid()
child = os.fork()
if not child:
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    isolate.map_user(0, uid, gid)
    for path in ("/", "/usr/lib", "/opt/envhub_sandbox"):
        for flags in (0x1020, 0x20):  # remount, of the mount or of the file system
            try: syscalls.mount(None, path, None, flags)
            except OSError as error: print(error.errno, flush=True)
            else: print("remounted", path, flush=True)
    os._exit(0)
os.wait()
"""
    with Zygote(launcher, prepare=attempt) as zygote:
        said = zygote.output().split()

    assert len(said) == 6
    assert set(said) <= {"1", "22"}
