"""Copies an environment's folder without what was made along the way.

The folder may be somebody else's: what stands in it is data, and a link out of it is refused.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from envhub.errors import UsageError

# caches, version control, virtual environments, builds, editors' files
JUNK = (
    "__pycache__", "*.py[co]", ".git", ".hg", ".svn", ".gitignore", ".gitattributes",
    ".venv", "venv", ".env", ".tox", ".nox", ".uv-cache", ".uv_cache", ".cache",
    ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints",
    "build", "dist", "*.egg-info", ".eggs", ".coverage", "htmlcov",
    ".idea", ".vscode", "*.swp", "*.swo", "*~", "#*#", ".#*", ".DS_Store", "Thumbs.db",
)  # fmt: skip
CONTAINER = (
    "Dockerfile", "Dockerfile.*", "*.dockerfile", ".dockerignore", "Containerfile",
    "docker-compose*.y*ml", "compose.y*ml", ".devcontainer",
)  # fmt: skip
_DEEPEST = 64


def copy(source: Path, made: Path, junk: tuple[str, ...] = JUNK) -> int:
    """Copy a folder and return how many files that were.

    Args:
        source: a folder.
        made: where to; it must not exist.
        junk: patterns of names that are left out, at any depth.

    Raises:
        UsageError: something in it is no file, folder or link within it.
    """
    root = source.resolve()
    if made.resolve().is_relative_to(root):
        raise UsageError(f"`{made}` is within `{source}`", hint="work in another folder")
    made.mkdir(parents=True)
    count = 0
    for path in _kept(root, junk):
        target = made / path.relative_to(root)
        if path.is_symlink():
            target.symlink_to(_within(path, root))
        elif path.is_dir():
            target.mkdir()
        elif stat.S_ISREG(path.stat().st_mode):
            shutil.copyfile(path, target)
            executable = path.stat().st_mode & stat.S_IXUSR
            target.chmod(0o755 if executable else 0o644)  # who serves it may be another user
            count += 1
        else:
            raise UsageError(f"`{path}` is no file, folder or link")
    for folder in (made, *(p for p in made.rglob("*") if p.is_dir() and not p.is_symlink())):
        folder.chmod(0o755)
    _check_links(made)
    return count


def _kept(folder: Path, junk: tuple[str, ...], depth: int = 0) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in junk):
            continue
        yield path
        if path.is_dir() and not path.is_symlink():
            if depth >= _DEEPEST:
                raise UsageError(f"`{folder}` is more than {_DEEPEST} folders deep")
            yield from _kept(path, junk, depth + 1)


def _within(link: Path, root: Path) -> str:
    """Return where a link points, from its own folder."""
    try:
        target = link.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"`{link.relative_to(root)}` points to itself") from None
    if not target.is_relative_to(root):
        raise UsageError(
            f"`{link.relative_to(root)}` points out of the folder, to `{os.readlink(link)}`",
            hint="copy what it points to into the folder",
        )
    return os.path.relpath(target, link.parent.resolve())


def _check_links(made: Path) -> None:
    for path in made.rglob("*"):
        if path.is_symlink() and not path.exists():
            raise UsageError(
                f"`{path.relative_to(made)}` points to `{os.readlink(path)}`, which is not"
                " there, or left out",
                hint="remove the link",
            )
