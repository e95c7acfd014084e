"""Makes a copy of a folder for OpenEnv one's own: another name, no container, a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envhub.cli import copying
from envhub.errors import ManifestError, UsageError

TESTS = "tests"
_INI = """\
# Makes this folder pytest's root: it would import the package above, which needs `openenv`.
[pytest]
"""
_IMPORT = re.compile(r"^\s*(from|import)\s")
_TEST = '''"""Plays {name} as its clients will: in a sandbox, by its schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import envhub

HERE = Path(__file__).parents[1]


def test_an_episode_begins() -> None:
    """In the best sandbox that this machine has."""
    with envhub.make("{name}", envs=HERE, isolation="best") as env:
        assert not env.reset().done


def test_every_reset_and_step_is_answered() -> None:
    """The same actions each time; `envhub check {name}` tries more."""
    command = [sys.executable, "-m", "envhub", "check", str(HERE), "--isolation", "best"]
    done = subprocess.run([*command, "--only", "answers"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
'''


def adopt(folder: Path, made: Path, name: str) -> Iterator[str]:
    """Copy a folder for OpenEnv, and say what was changed.

    Args:
        folder: with an openenv.yaml.
        made: where to; it must not exist.
        name: of the copy: its folder, its package and its environment.

    Raises:
        UsageError: the name is no name of a package, or the folder is none for OpenEnv.
        ManifestError: its openenv.yaml is not valid.
    """
    from envhub.hub.environments import openenv

    if not name.isidentifier():
        raise UsageError(
            f"`{name}` is no name of a Python package, as OpenEnv needs",
            hint=f"`{name.replace('-', '_')}`",
        )
    if not (folder / openenv.FILE).is_file():
        raise UsageError(f"no `{openenv.FILE}` in `{folder}`", hint="name the folder it is in")
    manifest = openenv.read(folder)
    count = copying.copy(folder, made, (*copying.JUNK, *copying.CONTAINER))
    yield f"{count} files copied from {folder}; its container's files are left out"
    kept = _rewrite_manifest(made / openenv.FILE, name, manifest.variable_defaults)
    if kept:
        yield f"variables of its Dockerfile are in {openenv.FILE} now: {', '.join(kept)}"
    old = folder.resolve().name
    if old != name and (changed := _rename_package(made, old, name)):
        yield f"the package `{old}` is `{name}` now in {', '.join(changed)}"
    tests = made / TESTS
    if tests.exists():  # its author's, with needs of their own
        tests = made / f"{TESTS}_envhub"
    tests.mkdir()
    (tests / "pytest.ini").write_text(_INI, encoding="utf-8")
    (tests / "test_env.py").write_text(_TEST.format(name=name), encoding="utf-8")
    yield f"its tests: {tests.name}/test_env.py"


def _rewrite_manifest(path: Path, name: str, variables: dict[str, str]) -> list[str]:
    """Set the name, add variables that are not there, and return those."""
    import yaml

    from envhub.hub.environments import openenv

    text = path.read_text(encoding="utf-8")
    data: dict[str, Any] = yaml.safe_load(text)
    there = data.get("variables") or {}
    known = openenv.by_name(there)
    missing = {key: value for key, value in variables.items() if key not in known}
    renamed, count = re.subn(r"(?m)^name:.*$", f"name: {name}", text, count=1)
    if count and (not missing or "variables" not in data):  # its comments can stay
        if missing:
            lines = yaml.safe_dump({"variables": missing}, sort_keys=False)
            renamed = f"{renamed.rstrip()}\n{lines}"
        text = renamed
    else:
        data["name"] = name
        if isinstance(there, dict):
            data["variables"] = {**there, **missing}
        else:
            data["variables"] = [*there, *({"name": k, "value": v} for k, v in missing.items())]
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    if yaml.safe_load(text).get("name") != name:
        raise ManifestError(f"`{path}`: its name cannot be changed")
    path.write_text(text, encoding="utf-8")
    return list(missing)


def _rename_package(made: Path, old: str, new: str) -> list[str]:
    """Replace the package's name where it is imported, examples included, and in pyproject."""
    word = re.compile(rf"(?<![\w-]){re.escape(old)}(?![\w-])")
    changed = []
    for path in [*sorted(made.rglob("*.py")), *made.glob("*.md"), made / "pyproject.toml"]:
        if not path.is_file() or path.is_symlink():
            continue
        try:
            before = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        project = path.suffix == ".toml"
        lines = [
            word.sub(new, line) if project or _IMPORT.match(line) else line
            for line in before.splitlines(keepends=True)
        ]
        if (after := "".join(lines)) != before:
            path.write_text(after, encoding="utf-8")
            changed.append(str(path.relative_to(made)))
    return changed
