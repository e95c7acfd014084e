"""Which environments the suite finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential import folders
from tests.differential.plays import NOT_PLAYED, PLAYS


def environment(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "openenv.yaml").write_text("name: x")
    return folder


def test_a_folder_of_them_is_taken_as_it_is(tmp_path: Path) -> None:
    made = environment(tmp_path / "x_env")
    (tmp_path / "no_env").mkdir()

    assert folders.inside(tmp_path) == {"x_env": made}
    assert folders.found(tmp_path).items() >= {"x_env": made}.items()


def test_an_installed_distribution_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, package in ("openenv_x", "x_env"), ("other_y", "y_env"):
        environment(tmp_path / package)
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (info / "RECORD").write_text(f"{package}/openenv.yaml,,\n{name}-1.dist-info/RECORD,,\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert folders.installed() == {"x_env": tmp_path / "x_env"}


def test_each_environment_is_played_or_has_a_reason_not_to_be() -> None:
    assert not set(PLAYS) & set(NOT_PLAYED)
    assert len([name for name in PLAYS if name not in folders.inside(folders.OURS)]) >= 10
