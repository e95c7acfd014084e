"""What a session process is when somebody's code begins: every number that was set."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from envhub_sandbox import Launcher, Limits
from tests.sandbox.alone import MIB, Zygote

LIMITS = Limits(
    memory_bytes=300 * MIB,
    address_bytes=2048 * MIB,
    cpu_s=7,
    processes=20,
    open_files=100,
    file_bytes=3 * MIB,
    disk_bytes=5 * MIB,
    disk_files=300,
    niceness=3,
)
EXPECTED = {
    "RLIMIT_AS": [2048 * MIB, 2048 * MIB],
    "RLIMIT_CORE": [1, 1],
    "RLIMIT_CPU": [7, 9],
    "RLIMIT_DATA": [300 * MIB, 300 * MIB],
    "RLIMIT_FSIZE": [3 * MIB, 3 * MIB],
    "RLIMIT_MEMLOCK": [0, 0],
    "RLIMIT_MSGQUEUE": [0, 0],
    "RLIMIT_NICE": [0, 0],
    "RLIMIT_NOFILE": [100, 100],
    "RLIMIT_NPROC": [20, 20],
    "RLIMIT_RTPRIO": [0, 0],
    "RLIMIT_SIGPENDING": [256, 256],
    "RLIMIT_STACK": [8 * MIB, 8 * MIB],
}
LOOK = """
import ctypes, os, resource
mask = os.umask(0)
with open("/proc/self/stat") as file:
    fields = file.read().rpartition(")")[2].split()
say({
    "limits": {name: resource.getrlimit(getattr(resource, name)) for name in given["names"]},
    "umask": mask, "folder": os.getcwd(), "session": os.getsid(0), "pid": os.getpid(),
    "terminal": int(fields[4]), "niceness": os.nice(0), "secure": ctypes.CDLL(None).prctl(27),
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "disks": {path: [(at := os.statvfs(path)).f_blocks * at.f_frsize, at.f_files]
              for path in ("/workspace", "/tmp", "/dev/shm")},
})
hear()
"""


@pytest.fixture(scope="module")
def seen(launcher: Launcher) -> Iterator[dict[str, Any]]:
    owners = os.umask(0o077)  # a mask that a session must not inherit
    try:
        with Zygote(launcher, limits=LIMITS) as zygote:
            with zygote.session(LOOK, names=sorted(EXPECTED)) as session:
                yield session.hear()
    finally:
        os.umask(owners)


def test_every_limit_is_in_force(seen: dict[str, Any]) -> None:
    assert seen["limits"] == EXPECTED


def test_every_kind_of_limit_that_linux_has_is_thought_of() -> None:
    """Left are one that Linux ignores, another name of one, and one of real-time processes."""
    known = {name for name in dir(resource) if name.startswith("RLIMIT_")}

    assert known - set(EXPECTED) == {"RLIMIT_RSS", "RLIMIT_OFILE", "RLIMIT_RTTIME"}


def test_disks_are_as_large_as_they_may_be(seen: dict[str, Any]) -> None:
    assert seen["disks"] == {
        "/workspace": [5 * MIB, 300],
        "/tmp": [5 * MIB, 300],
        "/dev/shm": [5 * MIB, 256],
    }


def test_a_session_begins_in_its_own_folder_without_a_terminal(seen: dict[str, Any]) -> None:
    assert (seen["folder"], seen["umask"]) == ("/workspace", 0o022)
    assert (seen["session"], seen["terminal"]) == (seen["pid"], 0)


def test_a_session_gives_way_to_others(seen: dict[str, Any]) -> None:
    """In CPU time as its limits say, and first of all when memory runs out."""
    assert seen["niceness"] == os.getpriority(os.PRIO_PROCESS, 0) + 3
    assert seen["oom"] == 1000


def test_no_user_number_brings_a_capability_back(seen: dict[str, Any]) -> None:
    """All of securebits, and locked."""
    assert seen["secure"] == 0xEF


def test_without_limits_on_them_cpu_and_address_space_are_the_owners(
    launcher: Launcher,
) -> None:
    """0 means none, and the control for the numbers above."""
    with Zygote(launcher, limits=Limits()) as zygote:
        with zygote.session(LOOK, names=["RLIMIT_AS", "RLIMIT_CPU"]) as session:
            found = session.hear()["limits"]

    assert found == {
        name: list(resource.getrlimit(getattr(resource, name)))
        for name in ("RLIMIT_AS", "RLIMIT_CPU")
    }
