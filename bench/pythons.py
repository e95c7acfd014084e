"""The virtual environments of others' libraries, one for each, made by uv.

They are below the user's cache, by what is in them, so that a later run has them at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.plan import OTHERS

_DEADLINE_S = 1800.0  # torch and what it needs are 5 GB
_COMPLETE = "complete"
NOT_INSTALLED = "not installed: `just bench --install`"


class NotInstalledError(Exception):
    """There is no virtual environment with that library; the message says why."""


@dataclass(frozen=True)
class Library:
    """Somebody else's library.

    Args:
        name: for people.
        packages: what pip installs.
        variables: for what is built from source.
    """

    name: str
    packages: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        """Its virtual environment, made or not."""
        said = repr((sys.version_info[:3], sys.base_prefix, self.packages))
        key = hashlib.sha256(said.encode()).hexdigest()[:12]
        return _cache() / f"{self.name.lower()}-{key}"

    def python(self, *, install: bool) -> str:
        """Return a Python that has it. Blocks, up to minutes, if it is installed first.

        Raises:
            NotInstalledError: it is not there and may not be installed, or cannot be.
        """
        if not (self.home / _COMPLETE).exists():
            if not install:
                raise NotInstalledError(NOT_INSTALLED)
            self._install()
        return str(self.home / "bin" / "python")

    def _install(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        python = str(self.home / "bin" / "python")
        self._uv("venv", "--no-project", "--python", sys.executable, str(self.home))
        self._uv("pip", "install", "--python", python, *self.packages)
        (self.home / _COMPLETE).touch()

    def _uv(self, *arguments: str) -> None:
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        if uv is None:
            raise NotInstalledError("not installed: there is no `uv`")
        done = subprocess.run(
            [uv, *arguments, "--quiet"],
            cwd="/",
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=_DEADLINE_S,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["uv did not say why"]
            print(done.stderr, file=sys.stderr)
            raise NotInstalledError(f"could not be installed: {last[0].strip()}")


SB3 = Library("SB3", ("stable-baselines3==2.9.2", "gymnasium==1.4.0"))
# its releases have no wheels, and the source fetches graphics libraries from elsewhere while it
# is built, for environments in C; without those and without training the rest is Python alone
PUFFERLIB = Library(
    "PufferLib",
    ("pufferlib==3.0.0", "psutil"),
    {"NO_OCEAN": "1", "NO_TRAIN": "1", "PYTHONPATH": str(OTHERS / "pufferlib")},
)
ENVPOOL = Library("EnvPool", ("envpool==1.2.5", "gymnasium==1.4.0"))
RAY = Library("Ray", ("ray==2.60.0",))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ENVHUB_CACHE") or Path(base) / "envhub") / "bench"
