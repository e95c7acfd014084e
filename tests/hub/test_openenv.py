"""What an OpenEnv folder says of itself, read."""

from __future__ import annotations

from pathlib import Path

import pytest

from envhub.errors import ManifestError
from envhub.hub.environments import openenv, requirements
from envhub.hub.environments.catalog import Catalog
from envhub.hub.environments.requirements import OURS, runs_here

ENVS = Path(__file__).parents[1] / "openenv" / "envs"
MIB = 1024 * 1024


def test_resources_become_limits_and_what_is_set_becomes_variables() -> None:
    read = openenv.read(ENVS / "counter_env")

    assert (read.name, read.entry, read.version) == ("counter_env", "server.app:app", "0.3.0")
    assert read.limits.memory_bytes == read.limits.session_memory_bytes == 512 * MIB
    assert read.limits.disk_bytes == 8 * MIB
    assert read.deadlines.episode_s == 300
    assert read.variable_defaults == {"COUNTER_FROM": "image", "COUNTER_STEP": "2"}
    assert set(read.variables) == {"COUNTER_FROM", "COUNTER_STEP"}


def test_the_old_form_names_no_app() -> None:
    assert openenv.read(ENVS / "whole_env").entry == "server.app:app"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "is not YAML"),
        ("name: &a [*a]", "is not YAML|\\$.name"),
        ("- 1", "Expected `object`"),
        ("version: 1", "missing required field `name`"),
        ("name: x\napp: server.app", "got `server.app` - at `\\$.app`"),
        ("name: x\nvalidation: {network: {mode: allowlist}}", "no network by allowlist"),
        ("name: x\nvalidation: {network: {mode: open}}", "Invalid enum value 'open'"),
        ("name: x\nvalidation: {resources: {gpus: 1}}", "no GPUs"),
        ("name: x\nvalidation: {resources: {memory_mb: lots}}", "memory_mb"),
        ("name: x\nvalidation: {resources: {memory_mb: -1}}", "memory_mb"),
        ("name: x\nvariables: {A: {B: 1}}", "at `\\$.variables`"),
        ("name: x\nvariables: {'A B': 1}", "at `\\$.variables`"),
        ("name: x\n#" + "x" * 70_000, "longer than"),
        ("name: !!python/object/apply:os.getpid []", "is not YAML"),
    ],
)
def test_a_file_that_is_not_valid_says_where(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "some_env"
    folder.mkdir()
    (folder / openenv.FILE).write_text(text)

    with pytest.raises(ManifestError, match=message) as caught:
        openenv.read(folder)
    assert str(folder / openenv.FILE) in str(caught.value)


def test_a_folder_that_no_import_could_name_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "my-env"
    folder.mkdir()
    (folder / openenv.FILE).write_text("name: my-env")

    with pytest.raises(ManifestError, match="no name of a package") as caught:
        openenv.read(folder)
    assert "_" in caught.value.hint


def test_ours_goes_before_theirs_and_both_are_found(tmp_path: Path) -> None:
    for name in ("a_env", "b_env"):
        (tmp_path / name).mkdir()
        (tmp_path / name / openenv.FILE).write_text(f"name: {name}")
    (tmp_path / "b_env" / "env.toml").write_text('name = "b"\nentry = "env:B"')

    catalog = Catalog([tmp_path])
    assert [catalog[name].format for name in catalog.names()] == ["openenv", "envhub"]


def test_the_variables_of_an_image_are_those_that_mean_something_here(tmp_path: Path) -> None:
    folder = tmp_path / "x_env"
    folder.mkdir()
    (folder / openenv.FILE).write_text("name: x\nvariables: {LAST: 1.5}")
    (folder / "Dockerfile").write_text(
        "FROM a\nENV PATH=/x:$PATH\nenv A=1 B='two words' \\\n    C=3\nENV OLD form of it\n"
        "ENV REFERS=$A\nRUN export NOT=1\nENV BROKEN='\nENV LAST=0\n"
    )

    assert openenv.read(folder).variable_defaults == {
        "A": "1", "B": "two words", "C": "3", "OLD": "form of it", "LAST": "1.5",
    }  # fmt: skip


def needed(folder: Path, *lines: str) -> set[str]:
    (folder / "requirements.txt").write_text("\n".join(lines))
    return set(requirements.read(folder).lines) - set(OURS)


@pytest.mark.parametrize(
    "line",
    [
        "openenv-core @ git+https://github.com/meta-pytorch/OpenEnv.git@main",
        "openenv[core] @ git+https://github.com/meta-pytorch/OpenEnv",
        "git+https://github.com/huggingface/OpenEnv.git#subdirectory=src",
        "openenv_core>=0.1; python_version > '3'",
        "-e ../..",
        "# a comment",
        "",
    ],
)
def test_every_name_of_openenv_means_its_release(tmp_path: Path, line: str) -> None:
    left = {each for each in needed(tmp_path, line) if not each.startswith(OURS[-1])}

    assert left == set()


@pytest.mark.parametrize("line", ["numpy>=1.24", "openenv[core]>=0.2", "openenv-other>=1"])
def test_what_an_index_has_is_left_as_it_is(tmp_path: Path, line: str) -> None:
    assert needed(tmp_path, f"{line}  # why") == {line}


@pytest.mark.parametrize(
    "line",
    [
        "--no-binary :all:",
        "-r /etc/passwd",
        "numpy>=2 --no-binary :all:",
        "numpy>=2 -e .",
        "numpy>=2 \\",
        "numpy>=2\t--hash=sha256:00",
    ],
)
def test_no_option_reaches_the_resolver(tmp_path: Path, line: str) -> None:
    """It runs outside of every sandbox, and one of them has it run an author's code."""
    assert needed(tmp_path, line) <= {"numpy>=2"}


def test_a_project_goes_before_a_list(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["attrs"]\nrequires-python = ">=3.10,<4"'
    )

    assert needed(tmp_path, "numpy") == {"attrs"}
    assert requirements.read(tmp_path).python == ">=3.10,<4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[project]\ndependencies = 3", "at `\\$.project.dependencies`"),
        ("[project]\nrequires-python = 3", "at `\\$.project.requires-python`"),
        ("[project", "is not TOML"),
        ('[project]\nrequires-python = "/home/me/python,<3"', "got `/home/me/python,<3`"),
        ('[project]\nrequires-python = "latest"', "got `latest`"),
        ('[project]\ndependencies = ["a\\n--no-binary :all:"]', "expected one line each"),
    ],
)
def test_a_project_that_is_not_valid_says_where(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "pyproject.toml").write_text(text)

    with pytest.raises(ManifestError, match=message):
        requirements.read(tmp_path)


@pytest.mark.parametrize(
    ("python", "holds"),
    [
        ("", True),
        (">=3.10", True),
        (">=3.10, <4.0", True),
        (">=3.10,<3.11", False),
        ("<3", False),
        ("~=3.9", True),
        ("~=2.7", False),
        ("==3.*", True),
        ("==2.*", False),
        ("!=3.1", True),
        ("what is this", False),
    ],
)
def test_which_pythons_are_asked_for(python: str, holds: bool) -> None:
    assert runs_here(python) is holds


def test_an_operator_s_packages_are_resolved_with_the_author_s(
    tmp_path: Path,
) -> None:
    (tmp_path / "requirements.txt").write_text("numpy\n")
    needed = requirements.read(tmp_path, ("open_spiel", "numpy<3", "--pre"))

    assert {"numpy", "numpy<3", "open_spiel"} <= {*needed.lines}
    assert not any(line.startswith("-") for line in needed.lines)
