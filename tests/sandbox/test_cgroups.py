"""Control groups: the real hierarchy where root may use it, and its files where not.

The memory controller is tried only where a group for it is named in $ENVHUB_TEST_CGROUP, or
this process is in the root group: a test takes no process out of the group that whoever runs
it has put it in, and makes no groups there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envhub_sandbox import Limits, Passed, cgroups
from envhub_sandbox.cgroups import Cgroups, Mount

MIB = 1024 * 1024
THREADS = """
import threading, sys
sys.stdin.readline()
made = 0
try:
    for _ in range(20):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        made += 1
except RuntimeError:
    pass
print(made, flush=True)
sys.stdin.readline()
"""
MEMORY = """
import mmap, sys
sys.stdin.readline()
kept = mmap.mmap(-1, 200 << 20)
kept.write(b"x" * (200 << 20))
"""


def place(controller: str) -> Path:
    """A new group for tests in the hierarchy of a v1 controller, or a skip that says why."""
    if os.geteuid() != 0:
        pytest.skip("only root may make groups here")
    mounts = [mount for mount in cgroups._mounts() if controller in mount.controllers]
    if not mounts:
        pytest.skip(f"no cgroup v1 hierarchy for {controller}")
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.split(":", 2)[2] for line in lines if f":{controller}:" in line)
    named = os.environ.get("ENVHUB_TEST_CGROUP", "")
    if own != "/" and not named:
        pytest.skip(f"somebody put this process into the {controller} group {own}")
    return mounts[0].folder(f"{named}/envhub-test-{os.getpid()}")


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = place(request.param)
    folder.mkdir()
    yield folder
    folder.rmdir()


@pytest.mark.parametrize("group", ["pids"], indirect=True)
def test_processes_are_counted_in_the_group(group: Path) -> None:
    places = Cgroups("cgroup v1", {"pids": group})
    with subprocess.Popen(
        [sys.executable, "-c", THREADS], stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        leaf = places.leaf(process.pid, Limits(processes=5))
        process.stdin.write("\n")
        process.stdin.flush()

        assert process.stdout.readline() == "4\n"  # and its first
        leaf.remove()
        assert len(list(group.glob("envhub-*"))) == 1  # it is still there
        process.kill()
    places.remove_left()
    assert list(group.glob("envhub-*")) == []


@pytest.mark.parametrize("group", ["pids"], indirect=True)
def test_groups_that_a_dead_owner_left_are_removed(group: Path) -> None:
    (group / "envhub-1-7-1").mkdir()  # process 1 was not started then
    own = f"envhub-{os.getpid()}-{cgroups._started(os.getpid())}-9"
    (group / own).mkdir()
    (group / "somebody-elses").mkdir()
    Cgroups("cgroup v1", {"pids": group})

    left = [child for child in group.iterdir() if child.is_dir()]
    assert {child.name for child in left} == {own, "somebody-elses"}
    for child in left:
        child.rmdir()


@pytest.mark.parametrize("group", ["memory"], indirect=True)
def test_shared_memory_past_the_limit_is_killed_with_evidence(group: Path) -> None:
    places = Cgroups("cgroup v1", {"memory": group})
    with subprocess.Popen([sys.executable, "-c", MEMORY], stdin=-1) as process:
        leaf = places.leaf(process.pid, Limits(session_memory_bytes=64 * MIB))
        assert leaf.passed() is None
        process.communicate(b"\n")
    passed = leaf.passed()
    leaf.remove()

    assert process.returncode == -9
    assert passed == Passed("session_memory_bytes", 64 * MIB, 64 * MIB)


@pytest.mark.parametrize(
    ("kind", "files", "observed"),
    [
        ("cgroup v2", {"memory.events": "oom 3\noom_kill 1\n", "memory.peak": "70"}, 70),
        ("cgroup v2", {"memory.events": "oom_kill 2\noom_group_kill 1\n"}, 64),
        ("cgroup v2", {"memory.events": "oom 1\noom_kill 0\n"}, None),
        ("cgroup v1", {"memory.oom_control": "under_oom 0\noom_kill 1\n"}, 64),
        ("cgroup v1", {"memory.oom_control": "under_oom 1\noom_kill 0\n"}, None),
        ("cgroup v1", {}, None),
    ],
)
def test_a_kill_for_want_of_memory_is_read_and_not_guessed(
    tmp_path: Path, kind: cgroups.Kind, files: dict[str, str], observed: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    limits = Limits(session_memory_bytes=64)
    leaf = cgroups.Leaf(Cgroups(kind, {}), {"memory": tmp_path}, limits)

    expected = None if observed is None else Passed("session_memory_bytes", 64, observed)
    assert leaf.passed() == expected


def test_limits_are_in_the_group_before_its_process(tmp_path: Path) -> None:
    """The files of v2, as the kernel names them."""
    places = Cgroups("cgroup v2", {"memory": tmp_path, "pids": tmp_path})
    places.leaf(7, Limits(session_memory_bytes=64, processes=5))
    (leaf,) = tmp_path.iterdir()
    written = sorted(leaf.iterdir(), key=lambda file: file.stat().st_mtime_ns)

    assert [(file.name, file.read_text()) for file in written] == [
        ("memory.oom.group", "1"),
        ("memory.max", "64"),
        ("pids.max", "5"),
        ("cgroup.procs", "7"),
    ]


@pytest.mark.parametrize(
    ("root", "group", "folder"),
    [("/", "/a/b", "/m/a/b"), ("/a", "/a/b", "/m/b"), ("/a", "/a", "/m")],
)
def test_a_group_is_found_below_where_its_hierarchy_is_mounted(
    root: str, group: str, folder: str
) -> None:
    mount = Mount(Path("/m"), root, frozenset())

    assert Path(os.path.normpath(mount.folder(group))) == Path(folder)


def delegated(folder: Path, members: str) -> list[Mount]:
    """A v2 hierarchy of plain files, in which our own group stands at `folder`."""
    own = folder / _own_group().strip("/")
    own.mkdir(parents=True, exist_ok=True)
    (own / "cgroup.controllers").write_text("cpu memory pids")
    (own / "cgroup.subtree_control").write_text("")
    (own / "cgroup.procs").write_text(members)
    return [Mount(folder, "/", frozenset())]


def _own_group() -> str:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    return next((line[3:] for line in lines if line.startswith("0::")), "/")


def test_the_root_group_is_never_ours(tmp_path: Path) -> None:
    if _own_group() != "/":
        pytest.skip("this process is in a group of its own")
    assert cgroups._delegated(delegated(tmp_path, f"{os.getpid()}\n")) is None
    assert not (tmp_path / "envhub-hub").exists()


def test_a_group_with_others_in_it_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_lines", _in_group("/x", tmp_path, f"{os.getpid()}\n1\n"))
    monkeypatch.setattr(cgroups, "_is_ours", lambda folder: True)
    mounts = [Mount(tmp_path, "/", frozenset())]

    assert cgroups._delegated(mounts) is None
    assert not (tmp_path / "x" / "envhub-hub").exists()


def test_alone_in_a_delegated_group_we_move_into_a_leaf_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_lines", _in_group("/x", tmp_path, f"{os.getpid()}\n"))
    monkeypatch.setattr(cgroups, "_is_ours", lambda folder: True)
    found = cgroups._delegated([Mount(tmp_path, "/", frozenset())])

    assert found is not None
    assert (found.kind, found.holds_memory) == ("cgroup v2", True)
    leaf = tmp_path / "x" / "envhub-hub"
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    enabled = (tmp_path / "x" / "cgroup.subtree_control").read_text()
    assert enabled == "+memory +pids +cpu"


def _in_group(group: str, root: Path, members: str) -> object:
    folder = root / group.strip("/")
    folder.mkdir()
    (folder / "cgroup.controllers").write_text("cpu memory pids")
    (folder / "cgroup.subtree_control").write_text("")
    (folder / "cgroup.procs").write_text(members)
    texts = {"/proc/self/cgroup": f"0::{group}", str(folder / "cgroup.procs"): members}
    return lambda path: texts[path].splitlines()
