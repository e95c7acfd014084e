"""`envhub init`: what it makes passes its own tests, and every check, at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from envhub.cli.adopting import adopt
from envhub.cli.init import class_name
from envhub.errors import UsageError
from envhub.hub.environments import openenv
from tests.cli.test_cli import envhub

COUNTER = Path(__file__).parents[1] / "openenv" / "envs" / "counter_env"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a newcomer stands."""
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_makes_passes_its_tests_and_every_check(place: Path) -> None:
    made = envhub("init", "my-game")
    own = [sys.executable, "-m", "pytest", "-q", "my-game"]
    tested = subprocess.run(own, capture_output=True, text=True, timeout=100)
    checked = json.loads(envhub("check", "my-game", "--json").stdout)
    listed = json.loads(envhub("list", "--json", "--envs", str(place)).stdout)

    assert made.returncode == 0, made.stderr
    for command in ("python -m pytest my-game", "envhub check my-game", "envhub serve my-game"):
        assert command in made.stdout
    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout
    assert {r["status"] for r in checked["results"]} == {"passed"}
    assert "my-game" in [e["name"] for e in listed["environments"]]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's sandboxes run as another user")
def test_what_root_makes_can_be_read_in_its_sandboxes(place: Path) -> None:
    before = os.umask(0o077)
    try:
        envhub("init", "guess")
    finally:
        os.umask(before)

    assert envhub("check", "guess", "--only", "start").returncode == 0


def test_a_folder_with_something_in_it_is_not_touched(place: Path) -> None:
    (place / "taken").mkdir()
    (place / "taken" / "mine").touch()
    done = envhub("init", "taken")

    assert done.returncode == 2
    assert "`taken` is there already, and not empty" in done.stderr
    assert [p.name for p in (place / "taken").iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["Guess", "a/b", "..", "-x", "a b", ""])
def test_a_name_that_no_environment_can_have_is_refused(place: Path, name: str) -> None:
    assert envhub("init", "--", name).returncode == 2
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "made"), [("guess", "Guess"), ("my-own_env", "MyOwnEnv"), ("2048", "Env2048")]
)
def test_the_class_has_the_name_in_python_s_form(name: str, made: str) -> None:
    assert class_name(name) == made


# ---------------------------------------------------------------- --from-openenv


def test_a_copy_of_an_openenv_folder_keeps_variables_and_leaves_the_container(
    place: Path,
) -> None:
    said = list(adopt(COUNTER, place / "my_env", "my_env"))
    found = openenv.read(place / "my_env")
    names = {p.name for p in (place / "my_env").rglob("*")}

    assert any("COUNTER_FROM" in line for line in said)
    assert found.name == "my_env"
    assert found.variable_defaults == {"COUNTER_STEP": "2", "COUNTER_FROM": "image"}
    assert not {"Dockerfile", "__pycache__"} & names
    assert {"test_env.py", "openenv.yaml", "models.py"} <= names


def test_comments_of_a_manifest_stay_where_no_variable_is_new(place: Path) -> None:
    source = place / "old_env"
    (source / "server").mkdir(parents=True)
    (source / "server" / "app.py").write_text("from old_env.models import X  # old_env\n")
    (source / "openenv.yaml").write_text("# mine\nname: old_env\nversion: 1\n")
    list(adopt(source, place / "new_env", "new_env"))

    assert (
        place / "new_env" / "openenv.yaml"
    ).read_text() == "# mine\nname: new_env\nversion: 1\n"
    assert "from new_env.models" in (place / "new_env" / "server" / "app.py").read_text()


def test_a_variable_of_the_dockerfile_is_added_beside_comments(place: Path) -> None:
    source = place / "old_env"
    source.mkdir()
    (source / "openenv.yaml").write_text("# mine\nname: old_env\n")
    (source / "Dockerfile").write_text('FROM x\nENV A="b: c" D=1\nENV PATH=/x\n')
    list(adopt(source, place / "new_env", "new_env"))
    text = (place / "new_env" / "openenv.yaml").read_text()

    assert text.startswith("# mine\n")
    assert yaml.safe_load(text)["variables"] == {"A": "b: c", "D": "1"}


def test_nothing_is_left_of_a_copy_that_was_refused(place: Path) -> None:
    source = place / "old_env"
    source.mkdir()
    (source / "openenv.yaml").write_text("name: old_env\n")
    (source / "secret").symlink_to("/etc/passwd")
    done = envhub("init", "new_env", "--from-openenv", str(source))

    assert done.returncode == 2
    assert "`secret` points out of the folder, to `/etc/passwd`" in done.stderr
    assert not (place / "new_env").exists()


def test_a_name_that_is_no_package_is_refused(place: Path) -> None:
    with pytest.raises(UsageError) as refused:
        list(adopt(COUNTER, place / "my-env", "my-env"))

    assert refused.value.hint == "`my_env`"
