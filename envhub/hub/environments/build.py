"""Builds the Python that an environment of others' runs in, a virtual one of its own, by uv.

Named by content, below the user's cache:

    locks/KEY.txt      what a set of requirements was resolved to, with hashes
    pythons/KEY/       a virtual environment with exactly what one lock names

So what was built once needs neither a network nor uv again, folders that need the same share
it, and a folder whose requirements change gets another. Wheels only: to install a source
distribution runs its author's code, outside of any sandbox.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import envhub_sandbox
from envhub.errors import BuildFailed
from envhub.hub.environments import requirements
from envhub.hub.environments.manifest import Manifest
from envhub.hub.environments.requirements import Requirements

DEADLINE_S = 1800.0  # of each step; torch and its libraries are 3 GB
PATIENCE_S = 10.0  # after which a person is told that it goes on
_TAIL = 20  # lines of uv's own words
_COMPLETE = "complete"  # a file in what was built to its end
_WHEELS = ("--only-binary", ":all:")
Say = Callable[[str], None]


def python_for(
    manifest: Manifest, say: Say = lambda _: None, *, allow_build: bool = False
) -> str:
    """Return the virtual environment for it, built if need be. Blocks, up to minutes.

    Args:
        manifest: of a folder for OpenEnv, or of Gymnasium's.
        say: called with what is done, for a person.
        allow_build: also install what has no wheel, which runs its author's code. What was
            built so is found without it, too.

    Raises:
        BuildFailed: uv is not there, or could not; its words are in the message.
        ManifestError: the folder does not say what it needs.
    """
    needed = requirements.of(manifest)
    binary = () if allow_build else _WHEELS
    lock = _locked(manifest.name, needed, binary, say)
    try:
        return _installed(manifest.name, needed, lock, binary, say)
    except BuildFailed:  # what it names may be gone: releases are withdrawn, indexes differ
        lock.unlink(missing_ok=True)
    lock = _locked(manifest.name, needed, binary, say)
    return _installed(manifest.name, needed, lock, binary, say)


def _installed(
    name: str, needed: Requirements, lock: Path, binary: tuple[str, ...], say: Say
) -> str:
    # the folders of Python itself are in it, so they are a part of its name
    home = _cache() / "pythons" / _key(lock.read_text(), _base(needed))
    if (home / _COMPLETE).exists():
        return str(home)
    with _alone(home):
        if not (home / _COMPLETE).exists():
            say(f"{name}: installing {_count(lock)} packages")
            shutil.rmtree(home, ignore_errors=True)
            _uv(name, say, "venv", "--no-project", "--python", _base(needed), str(home))
            made = _python_itself(home)
            flags = ("--require-hashes", *binary, "--python", f"{home}/bin/python")
            _uv(name, say, "pip", "sync", *flags, str(lock))
            if _python_itself(home) != made:
                raise BuildFailed(f"`{name}`: one of its packages replaces Python itself")
            (home / _COMPLETE).touch()
    return str(home)


def _python_itself(home: Path) -> list[tuple[str, str]]:
    """Return what says where the interpreter is: a sandbox shows what is named there.

    A wheel may put files anywhere below the virtual environment, and so in their place.
    """
    programs = sorted(home.glob("bin/python*"))
    links = [(path.name, os.readlink(path) if path.is_symlink() else "") for path in programs]
    return [("", (home / "pyvenv.cfg").read_text()), *links]


def _locked(name: str, needed: Requirements, binary: tuple[str, ...], say: Say) -> Path:
    lock = _cache() / "locks" / f"{_key(*needed.lines, _base(needed))}.txt"
    if lock.exists():
        return lock
    with _alone(lock):
        if not lock.exists():
            say(f"{name}: resolving {len(needed.lines)} requirements")
            made = lock.with_suffix(".new")
            flags = ("--generate-hashes", "--no-annotate", "--no-header", *binary)
            text = "\n".join(needed.lines)
            where = ("--python", _base(needed), "--output-file", str(made))
            _uv(name, say, "pip", "compile", "-", *flags, *where, said=text)
            made.replace(lock)
    return lock


def _base(needed: Requirements) -> str:
    """Return the Python to build on: ours where it will do."""
    return envhub_sandbox.program() if requirements.runs_here(needed.python) else needed.python


def _uv(name: str, say: Say, *arguments: str, said: str = "") -> None:
    command = [_uv_program(), *arguments, "--no-progress", "--color", "never"]
    try:
        running = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd="/",  # no project of anybody's
        )
    except OSError as error:
        raise BuildFailed(f"`{name}`: uv cannot be started: {error.strerror}") from error
    with running:
        try:
            told = _waited(name, say, running, said)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        words = "\n".join(told.strip().splitlines()[-_TAIL:])
        hint = ""
        if "no usable wheels" in words or ("distributions" in words and "disabled" in words):
            hint = "`envhub build --allow-build` runs its build on this machine, unprotected"
        raise BuildFailed(f"`{name}` cannot be built; uv says:\n{words}", hint=hint)


def _waited(name: str, say: Say, running: subprocess.Popen[str], said: str) -> str:
    """Return what uv told on stderr when it ended; say now and then that it has not."""
    began = time.monotonic()
    text: str | None = said
    while True:
        try:
            return running.communicate(text, timeout=PATIENCE_S)[1]
        except subprocess.TimeoutExpired:
            text = None  # it has it
        elapsed = time.monotonic() - began
        if elapsed > DEADLINE_S:
            raise BuildFailed(f"`{name}`: uv took more than {DEADLINE_S:g} s")
        say(f"{name}: still at it, {elapsed:.0f} s")


def _uv_program() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise BuildFailed(
            "`uv`, which installs an environment's packages, is not there",
            hint=f"{sys.executable} -m pip install uv",
        )
    return found


@contextmanager
def _alone(made: Path) -> Iterator[None]:
    """Hold what is made for us alone: other hubs may want it, too."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_name(f"{made.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cache() -> Path:
    if given := os.environ.get("ENVHUB_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "envhub"


def _key(*parts: str) -> str:
    said = json.dumps([platform.machine(), *parts])
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def _count(lock: Path) -> int:
    return sum(1 for line in lock.read_text().splitlines() if "==" in line)
