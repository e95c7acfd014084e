"""What a sandbox shows: the interpreter must be found in it, wherever the host keeps it."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import envhub
import envhub_sandbox
from envhub.hub.environments.catalog import Catalog
from envhub.hub.workers import views
from tests.conftest import ENVS

PLAY = """
import sys, envhub
with envhub.make("probe", envs=sys.argv[1], launcher=sys.argv[2]) as env:
    env.reset()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    env.step({"code": code + "; result = {'prefix': sys.prefix}"})
    print(env.step({"code": "import sys; result = {'x': sys.prefix}"}).observation.x)
"""
PROBES = Path(__file__).parent / "envs"


@pytest.mark.parametrize("launcher", ["auto", "built-in"])
def test_a_virtual_environment_of_a_linked_python_works(tmp_path: Path, launcher: str) -> None:
    """Its python is a link to a link in a folder that nothing else shows, below /tmp even."""
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    linked = tmp_path / "bin" / "python3"
    linked.parent.mkdir()
    linked.symlink_to(os.path.realpath(sys.executable))
    venv = tmp_path / "venv"
    subprocess.run([linked, "-m", "venv", "--without-pip", venv], check=True)
    installed = sysconfig.get_path("purelib")
    (own,) = (venv / "lib").glob("python*/site-packages")
    sandbox = Path(envhub_sandbox.__path__[0]).parent
    (own / "others.pth").write_text(
        f"{installed}\n" + "\n".join(str(Path(p).parent) for p in envhub.__path__)
        + f"\n{sandbox}\n"
    )  # fmt: skip
    done = subprocess.run(
        [venv / "bin" / "python", "-c", PLAY, PROBES, launcher],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == f"{venv}\n", done.stderr


def test_agent_code_is_shown_no_packages_and_no_environment() -> None:
    manifest = Catalog([ENVS])["coding"]
    view = views.runner_view(manifest)
    shown = [bind.inside for bind in view.binds]
    packages = sysconfig.get_path("purelib")

    assert not any(Path(packages).is_relative_to(path) for path in shown if path != "/usr/lib")
    assert not any(Path(manifest.folder).is_relative_to(path) for path in shown)
    assert not any("share" in Path(path).parts[:3] and path.count("/") < 3 for path in shown)
    assert "/usr" not in shown


def test_a_package_that_the_manifest_names_is_shown_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "env.toml").write_text(
        'name = "x"\nentry = "env:X"\nagent_code = true\n[runner]\npackages = ["msgspec"]\n'
    )
    view = views.runner_view(Catalog([tmp_path])["x"])
    packages = [b.inside for b in view.binds if b.inside.startswith("/opt/packages/")]

    assert "/opt/packages/msgspec" in packages
    assert all("msgspec" in path for path in packages)
