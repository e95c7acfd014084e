"""`envhub push`: whole or not at all, and without what was made along the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envhub.cli import copying
from envhub.cli.push import exchange
from envhub.errors import UsageError
from tests.cli.test_cli import envhub
from tests.conftest import ENVS


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An environment as it looks after work: with caches, version control, and a link."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "mine"
    copying.copy(ENVS / "echo", folder)
    for junk in ("__pycache__/env.pyc", ".git/HEAD", ".venv/bin/python", ".pytest_cache/x",
                 "build/lib/x", "data/.mypy_cache/x", "env.py~", "x.egg-info/y"):  # fmt: skip
        (folder / junk).parent.mkdir(parents=True, exist_ok=True)
        (folder / junk).touch()
    (folder / "data" / "words").write_text("a b")
    (folder / "data" / "run").write_text("#!/bin/sh")
    (folder / "data" / "run").chmod(0o4700)
    (folder / "link").symlink_to(folder / "data" / "words")
    return folder


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def test_a_checked_folder_is_copied_without_junk_and_found(
    source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    done = envhub("push", str(source), ENVHUB_PATH=str(place))
    found = json.loads(envhub("list", "--json", ENVHUB_PATH=str(place)).stdout)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "15 passed" in done.stdout
    assert "found as `echo`" in done.stdout
    assert files(place / "echo") == {
        "README.md", "env.py", "env.toml", "data/words", "data/run", "link"
    }  # fmt: skip
    assert (place / "echo" / "link").readlink() == Path("data/words")
    assert (place / "echo" / "data" / "run").stat().st_mode & 0o7777 == 0o755
    assert [p.name for p in place.iterdir()] == ["echo"]
    (echo,) = [e for e in found["environments"] if e["name"] == "echo"]
    assert echo["folder"] == str(place / "echo")


def test_what_is_there_is_replaced_only_by_force(source: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    first = envhub("push", str(source), str(place), "--no-check")
    (source / "env.toml").write_text('name = "echo"\nentry = "env:Echo"\nversion = "2.0.0"\n')
    refused = envhub("push", str(source), str(place), "--no-check")
    version = (place / "echo" / "env.toml").read_text()
    forced = envhub("push", str(source), str(place), "--no-check", "--force")

    assert first.returncode == forced.returncode == 0, forced.stderr
    assert f"export ENVHUB_PATH={place}" in first.stdout
    assert refused.returncode == 2
    assert "(1.0.0) is there already" in refused.stderr
    assert "1.0.0" in version
    assert "2.0.0" in (place / "echo" / "env.toml").read_text()
    assert [p.name for p in place.iterdir()] == ["echo"]


def test_what_fails_a_check_is_not_pushed(source: Path, tmp_path: Path) -> None:
    (source / "env.py").write_text("class Echo:\n    pass\n")
    done = envhub("push", str(source), str(tmp_path / "place"))

    assert done.returncode == 2
    assert "not pushed" in done.stderr
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("points_to", ["/etc/passwd", "..", "nowhere", ".git/HEAD"])
def test_a_link_out_of_the_folder_or_to_nothing_is_refused(
    source: Path, tmp_path: Path, points_to: str
) -> None:
    (source / "odd").symlink_to(points_to)
    place = tmp_path / "place"
    done = envhub("push", str(source), str(place), "--no-check")

    assert done.returncode == 2
    assert "`odd` points" in done.stderr
    assert list(place.iterdir()) == []


def test_what_is_no_file_is_refused(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(UsageError, match="is no file, folder or link"):
        copying.copy(source, tmp_path / "made")


def test_a_folder_is_not_pushed_into_itself(source: Path) -> None:
    done = envhub("push", str(source), str(source), "--no-check")

    assert done.returncode == 2
    assert "is the folder itself, or within it" in done.stderr


def test_two_folders_change_places(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(tmp_path / "one", tmp_path / "other")

    assert files(tmp_path / "one") == {"other"}
    assert files(tmp_path / "other") == {"one"}


def test_two_folders_that_cannot_change_places_stay(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept").touch()
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "one", tmp_path / "other")

    assert files(tmp_path / "other") == {"kept"}


def test_links_in_a_circle_and_folders_without_end_are_refused(tmp_path: Path) -> None:
    circle, deep = tmp_path / "circle", tmp_path / "deep"
    circle.mkdir()
    (circle / "one").symlink_to("other")
    (circle / "other").symlink_to("one")
    deep.joinpath(*["d"] * 300).mkdir(parents=True)

    with pytest.raises(UsageError, match="`one` points to itself"):
        copying.copy(circle, tmp_path / "copied")
    with pytest.raises(UsageError, match="more than 64 folders deep"):
        copying.copy(deep, tmp_path / "copied_too")
