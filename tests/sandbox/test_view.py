"""What a sandbox shows, and the command line that shows it, as data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import envhub_sandbox
from envhub_sandbox import Bind, Grade, Limits, View, bwrap

PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(
    lambda p: "/" + "/".join(p)
)
binds = st.lists(st.builds(Bind, paths, paths | st.just("")), max_size=8)


def seen_at(mounted: tuple[Bind, ...], path: str) -> str | None:
    """What of the host stands at a path after these binds, in this order."""
    for bind in reversed(mounted):
        if PurePosixPath(path).is_relative_to(bind.inside):
            return str(
                PurePosixPath(bind.source) / PurePosixPath(path).relative_to(bind.inside)
            )
    return None


@given(binds)
def test_every_bind_of_a_view_is_seen_where_it_says(given_binds: list[Bind]) -> None:
    """The last one wins where several have one target."""
    ordered = View(tuple(given_binds)).ordered()

    for target, source in {b.inside: b.source for b in given_binds}.items():
        assert seen_at(ordered, target) == source


@given(binds)
def test_the_order_of_a_view_is_outer_first_and_nothing_covers_what_came_before(
    given_binds: list[Bind],
) -> None:
    ordered = View(tuple(given_binds)).ordered()

    for at, bind in enumerate(ordered):
        assert bind in given_binds
        for later in ordered[at + 1 :]:
            assert not PurePosixPath(bind.inside).is_relative_to(later.inside)


def test_a_bind_that_another_shows_already_is_left_out() -> None:
    view = View((Bind("/usr/lib"), Bind("/usr"), Bind("/usr/bin"), Bind("/usr")))

    assert view.ordered() == (Bind("/usr"),)


def test_a_bind_below_another_of_elsewhere_is_kept() -> None:
    """/a shows /a/b/c, and /x stands before it."""
    view = View((Bind("/a"), Bind("/x", "/a/b"), Bind("/a/b/c")))

    assert view.ordered() == (Bind("/a"), Bind("/x", "/a/b"), Bind("/a/b/c"))


def test_limits_survive_json() -> None:
    limits = Limits(memory_bytes=7, processes=3)

    assert Limits.from_dict(json.loads(json.dumps(limits.as_dict()))) == limits


def test_every_limit_is_a_number_that_json_can_carry() -> None:
    assert set(Limits().as_dict()) == {field.name for field in fields(Limits)}
    assert all(isinstance(value, int) for value in Limits().as_dict().values())


# ---------------------------------------------------------------- bubblewrap's command line


def test_a_view_becomes_a_command_line() -> None:
    view = View(
        binds=(Bind("/opt/code", "/opt/here"), Bind("/usr")),
        links=(("usr/bin", "/bin"),),
        masks=("/usr/lib/python3/dist-packages",),
        environment=(("HOME", "/workspace"),),
    )

    # fmt: off
    assert bwrap.arguments(view) == [
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try", "--die-with-parent", "--as-pid-1", "--new-session",
        "--cap-drop", "ALL", "--clearenv", "--unshare-net",
        "--setenv", "HOME", "/workspace",
        "--dir", "/dev", "--dir", "/workspace", "--dir", "/dev/shm", "--dir", "/dev/pts",
        "--tmpfs", "/tmp",
        "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/zero", "/dev/zero",
        "--dev-bind", "/dev/full", "/dev/full", "--dev-bind", "/dev/urandom", "/dev/urandom",
        "--dev-bind", "/dev/random", "/dev/random",
        "--symlink", "/proc/self/fd", "/dev/fd",
        "--symlink", "/proc/self/fd/0", "/dev/stdin",
        "--symlink", "/proc/self/fd/1", "/dev/stdout",
        "--symlink", "/proc/self/fd/2", "/dev/stderr",
        "--symlink", "pts/ptmx", "/dev/ptmx",
        "--symlink", "usr/bin", "/bin",
        "--ro-bind", "/usr", "/usr",
        "--ro-bind", "/opt/code", "/opt/here",
        "--tmpfs", "/usr/lib/python3/dist-packages",
        "--remount-ro", "/usr/lib/python3/dist-packages",
        "--proc", "/proc",
        "--remount-ro", "/",
    ]
    # fmt: on


@pytest.mark.parametrize(
    ("grade", "changed"),
    [
        (Grade("standard", network=False), {"--unshare-net"}),
        (Grade("standard", proc=False), {"--proc", "--bind"}),
    ],
    ids=["network", "proc"],
)
def test_a_lower_grade_leaves_out_what_it_is_without_and_no_more(
    grade: Grade, changed: set[str]
) -> None:
    assert set(bwrap.arguments(View())) ^ set(bwrap.arguments(View(), grade)) == changed


@given(binds)
def test_nothing_is_bound_writable_and_the_root_is_sealed_last(given_binds: list[Bind]) -> None:
    line = bwrap.arguments(View(tuple(given_binds)))

    assert "--bind" not in line
    assert line[-2:] == ["--remount-ro", "/"]


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))))
def test_arguments_are_packed_as_bubblewrap_reads_them(line: list[str]) -> None:
    assert bwrap.packed(line).decode().split("\0")[:-1] == line


# ---------------------------------------------------------------- system and interpreter


def test_the_system_is_shown_in_parts_and_never_whole() -> None:
    """Anybody's data may be in /usr/share or /usr/local, hidden tests among them."""
    shown = {bind.inside for bind in envhub_sandbox.system().ordered()}

    for whole in ("/", "/usr", "/usr/share", "/usr/local", "/etc", "/home", "/root", "/var"):
        assert whole not in shown


def test_the_system_shows_users_that_do_not_exist_on_the_host() -> None:
    sources = {bind.inside: bind.source for bind in envhub_sandbox.system().binds}

    assert sources["/etc/passwd"] != "/etc/passwd"
    assert Path(sources["/etc/passwd"]).read_text().count("\n") < 10


def view_of(python: Path, *, packages: bool) -> View:
    """The view that another Python makes of itself."""
    code = f"""
import dataclasses, json, sys
sys.path.insert(0, {PACKAGE!r})
import envhub_sandbox
print(json.dumps(dataclasses.asdict(envhub_sandbox.interpreter(packages={packages}))))
"""
    found = json.loads(subprocess.check_output([python, "-I", "-S", "-c", code]))
    return View(tuple(Bind(**bind) for bind in found["binds"]), masks=tuple(found["masks"]))


def test_packages_are_masked_also_where_the_interpreter_is_reached_by_a_link(
    tmp_path: Path,
) -> None:
    """The other name of the folder would show what the first one hides."""
    base = Path(sys.base_prefix).resolve()
    (tmp_path / "link").symlink_to(base)
    program = f"python{sys.version_info.major}.{sys.version_info.minor}"
    view = view_of(tmp_path / "link" / "bin" / program, packages=False)

    for bind in view.ordered():
        for name in ("site-packages", "dist-packages"):
            for folder in (program, "python3"):
                hidden = Path(bind.inside, folder, name)
                if Path(bind.source, folder, name).is_dir():
                    assert str(hidden) in view.masks
    assert {bind.inside for bind in view.binds} >= {f"{base}/lib", f"{tmp_path}/link/lib"}


def test_only_a_bare_interpreter_hides_its_packages() -> None:
    with_them = envhub_sandbox.interpreter(packages=True)
    without = envhub_sandbox.interpreter(packages=False)

    assert not with_them.masks
    assert sys.prefix in {bind.inside for bind in with_them.binds}
    assert sys.prefix not in {bind.inside for bind in without.binds}


@pytest.mark.parametrize("folder", ["", ".", "bin"])
def test_bubblewrap_is_not_looked_for_in_the_current_folder(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkout that brings its own `bwrap` must not be asked to build the walls."""
    planted = tmp_path / folder / "bwrap"
    planted.parent.mkdir(exist_ok=True)
    planted.write_text("#!/bin/sh\n")
    planted.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", folder)
    found = envhub_sandbox.bubblewrap()

    assert found is None or os.path.isabs(found)
    assert found not in (str(planted), "bwrap")


def test_bubblewrap_is_found_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the one above."""
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert envhub_sandbox.bubblewrap() == str(program)
