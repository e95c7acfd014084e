"""What is built for a folder, by uv, from packages made here: no index is asked."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

from envhub.errors import BuildFailed
from envhub.hub.environments import build, openenv, requirements
from envhub.hub.environments.manifest import Manifest

pytestmark = pytest.mark.openenv
RAN = "open({ran!r}, 'w')\nfrom setuptools import setup\nsetup(name='given', version='1')\n"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Build into a cache of this test, and nothing that a worker would need."""
    monkeypatch.setenv("ENVHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setattr(requirements, "OURS", ())


def wheel(folder: Path, **files: str) -> str:
    """Make a wheel of a package `given` with more files; return the requirement."""
    path = folder / "given-1-py3-none-any.whl"
    info = "given-1.dist-info"
    of_itself = {
        "given.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: given\nVersion: 1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**of_itself, **files}.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", "".join(f"{n},,\n" for n in archive.namelist()))
    return f"given @ file://{path}"


def manifest(folder: Path, requirement: str) -> Manifest:
    made = folder / "given_env"
    made.mkdir(exist_ok=True)
    (made / openenv.FILE).write_text("name: given")
    (made / "requirements.txt").write_text(requirement)
    return openenv.read(made)


def test_what_was_built_is_found_again_without_uv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = manifest(tmp_path, wheel(tmp_path))
    said: list[str] = []
    built = build.python_for(given, said.append)
    monkeypatch.setattr(build, "_uv", None)

    assert build.python_for(given, said.append) == built
    assert said == ["given: resolving 1 requirements", "given: installing 0 packages"]
    assert list(Path(built).glob("lib/python*/site-packages/given.py"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("given-1.data/data/pyvenv.cfg", "home = /var/x\nversion_info = 3.11.7\n"),
        ("given-1.data/data/bin/python", "#!/bin/sh\n"),
    ],
)
def test_a_wheel_that_says_where_python_is_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    """A sandbox shows the folders that are named there: /var/lib would be one."""
    given = manifest(tmp_path, wheel(tmp_path, **{name: text}))

    with pytest.raises(BuildFailed, match=r"replaces Python itself|reserved name"):
        build.python_for(given)
    with pytest.raises(BuildFailed):  # and is not taken for built the next time
        build.python_for(given)


@pytest.mark.parametrize("form", ["given @ file://{}", "{}", "-e {}"])
def test_no_author_s_build_runs_unless_it_was_allowed(tmp_path: Path, form: str) -> None:
    source, ran = tmp_path / "source", tmp_path / "ran"
    source.mkdir()
    (source / "setup.py").write_text(RAN.format(ran=str(ran)))
    given = manifest(tmp_path, form.format(source))

    if form.startswith("-"):  # an option is no requirement, so nothing is left to install
        build.python_for(given)
    else:
        with pytest.raises(BuildFailed, match="disabled") as refused:
            build.python_for(given)
        assert "--allow-build" in refused.value.hint

    assert not ran.exists()


def test_without_uv_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(BuildFailed, match="`uv`") as refused:
        build.python_for(manifest(tmp_path, wheel(tmp_path)))
    assert "pip install uv" in refused.value.hint


def test_a_person_who_waits_is_told_that_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PATIENCE_S", 0.02)
    said: list[str] = []
    build.python_for(manifest(tmp_path, wheel(tmp_path)), said.append)

    assert any("still at it" in words for words in said)


def test_one_that_takes_for_ever_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PATIENCE_S", 0.02)
    monkeypatch.setattr(build, "DEADLINE_S", 0.0)
    with pytest.raises(BuildFailed, match="uv took more than 0 s"):
        build.python_for(manifest(tmp_path, wheel(tmp_path)))
