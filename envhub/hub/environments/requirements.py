"""What an environment needs installed, as its author says it, and as it can be had.

Authors name OpenEnv in many ways: by its old name, by a branch on GitHub, by a path in its own
repository. All of them mean its release on PyPI.

An author is not trusted, and what is said here goes to a resolver that runs outside of every
sandbox and takes options in the same text, such as one to build from source. So a requirement
is one line, and no option.
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envhub.errors import ManifestError
from envhub.hub.environments import gym
from envhub.hub.environments.manifest import Manifest

# what a worker imports itself, and what its loader needs
_OF_A_WORKER = ("msgspec>=0.19", "pydantic>=2.9")
OURS = (*_OF_A_WORKER, "openenv>=0.10")
_FILES = ("server/requirements.txt", "requirements.txt")
_MOST_BYTES = 256 * 1024
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?")
_OPENENV = {"openenv", "openenv-core"}
_REPOSITORY = re.compile(r"/openenv(\.git)?([@#/]|$)", re.IGNORECASE)
_CLAUSE = re.compile(r"\s*(>=|<=|==|!=|~=|>|<)\s*(\d+(?:\.\d+)*)(\.\*)?\s*")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What is to be installed.

    Args:
        lines: in the form of PEP 508, ours included, sorted.
        python: versions that it runs on, such as ">=3.10"; "" for any.
    """

    lines: tuple[str, ...]
    python: str


def of(manifest: Manifest) -> Requirements:
    """Return what an environment needs that has a Python of its own.

    Raises:
        ManifestError: a file of its folder is not valid.
    """
    folder, beside = Path(manifest.folder), manifest.packages
    if manifest.format != "gym":
        return read(folder, beside)
    ours = (*_OF_A_WORKER, gym.requirement(manifest.entry))
    if manifest.folder:
        return read(folder, beside, ours)
    return Requirements(tuple(sorted({*beside, *ours})), "")


def read(
    folder: Path, beside: tuple[str, ...] = (), ours: tuple[str, ...] | None = None
) -> Requirements:
    """Return what the folder's pyproject.toml needs, or else its requirements.txt.

    Args:
        folder: of the environment.
        beside: what an operator adds; it may narrow what the author asks for.
        ours: what a worker needs; None for that of a folder for OpenEnv.

    Raises:
        ManifestError: the file is not valid.
    """
    project = folder / "pyproject.toml"
    python = ""
    if project.is_file():
        table = _project(project)
        said = table.get("dependencies", [])
        python = table.get("requires-python", "")
        if not (isinstance(said, list) and all(isinstance(line, str) for line in said)):
            raise ManifestError(f"`{project}`: expected texts - at `$.project.dependencies`")
        if not all(line.isprintable() for line in said):
            raise ManifestError(
                f"`{project}`: expected one line each - at `$.project.dependencies`"
            )
        if not isinstance(python, str) or not all(map(_CLAUSE.fullmatch, _clauses(python))):
            raise ManifestError(
                f"`{project}`: expected versions such as `>=3.11`, got `{python}` - at"
                " `$.project.requires-python`"
            )
    else:
        file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
        said = _text(file).splitlines() if file else []
    lines = {line for each in (*said, *beside) if (line := _from_pypi(each))}
    return Requirements(tuple(sorted({*lines, *(OURS if ours is None else ours)})), python)


def runs_here(python: str) -> bool:
    """Whether this interpreter is one of the versions that are asked for (PEP 440)."""
    return all(_holds(clause) for clause in _clauses(python))


def _clauses(python: str) -> list[str]:
    return [clause for clause in python.split(",") if clause.strip()]


def _from_pypi(line: str) -> str:
    """Return a requirement as pip takes it from an index; "" for none."""
    line = re.split(r"\s#|^#|\s-|\\", line, maxsplit=1)[0].strip()
    if line.startswith("-"):  # an option; `-e` names a folder that is not here
        return ""
    if _REPOSITORY.search(line.partition(";")[0]):
        return OURS[-1]
    name = _NAME.match(line)
    if name is None:
        return line
    if name[1].lower().replace("_", "-").replace(".", "-") not in _OPENENV:
        return line
    marker = line.partition(";")[2]
    if "@" in line or name[1].lower() != "openenv":
        line = f"{OURS[-1]};{marker}" if marker else OURS[-1]
    return line


def _holds(clause: str) -> bool:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        return False
    operator, version, any_below = match.groups()
    wanted = tuple(int(part) for part in version.split("."))
    ours = tuple(sys.version_info[:3])[: len(wanted) if any_below or operator == "~=" else 3]
    padded = wanted + (0,) * (len(ours) - len(wanted))
    return {
        ">=": ours >= padded,
        "<=": ours <= padded,
        ">": ours > padded,
        "<": ours < padded,
        "==": ours == padded,
        "!=": ours != padded,
        "~=": ours >= padded and ours[: len(wanted) - 1] == wanted[:-1],
    }[operator]


def _project(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(_text(path)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"`{path}` is not TOML: {error}") from error
    return table if isinstance(table, dict) else {}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"`{path}` cannot be read: {error}") from error
