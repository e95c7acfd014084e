"""What a user waits for at `import envhub`, and what `pip install` puts on the disk."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from stat import S_ISREG

from bench.figures import Group
from bench.plan import REPOSITORY, Plan
from bench.processes import run_to_end

DEADLINE_S = 900.0
_IMPORTS = {
    "import envhub": ("import envhub", 150.0),
    "envhub.Hub, which loads the hub": ("import envhub; envhub.Hub", None),
    "envhub.make, which loads it too": ("import envhub; envhub.make", None),
    "envhub.Action, which loads pydantic": ("import envhub; envhub.Action", None),
}
_COUNT = "import importlib.metadata as m, json; print(json.dumps(sorted({d.name for d in \
m.distributions()})))"


async def run(plan: Plan) -> Group:
    """Measure, and return the figures."""
    group = Group()
    _interpreters(group, plan)
    if plan.install:
        _install(group)
    return group


def _interpreters(group: Group, plan: Plan) -> None:
    """Time fresh interpreters, a bare one in every round to subtract."""
    bare: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in _IMPORTS}
    for at in range(plan.times(20) + 1):
        without = _start("pass")
        bare += [without] if at else []  # the first round reads the files from disk
        for name, (code, _) in _IMPORTS.items():
            taken = _start(code) - without
            times[name] += [taken] if at else []
    for name, (_, target) in _IMPORTS.items():
        group.add(name, "ms", times[name], target, "less a bare interpreter")
    group.add("a bare interpreter", "ms", bare, note="floor")


def _start(code: str) -> float:
    return run_to_end([sys.executable, "-c", code]) * 1000


def _install(group: Group) -> None:
    """Install the project as a user would, into a virtual environment that we throw away."""
    with tempfile.TemporaryDirectory(prefix="envhub-bench-") as folder:
        venv = Path(folder, "venv")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=120)
        empty, before = _distributions(venv), _sizes(venv)
        pip = [str(venv / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
        start = time.perf_counter()
        # stdout is ours: warnings of a mirror are no figure
        subprocess.run([*pip, str(REPOSITORY)], check=True, timeout=600, stderr=subprocess.PIPE)
        taken = time.perf_counter() - start
        added = _distributions(venv) - empty
        size, blocks = (
            (now - then) / 1e6 for now, then in zip(_sizes(venv), before, strict=True)
        )
    names = ", ".join(sorted(added))
    group.add("pip install: distributions", "count", [len(added)], 30, names)
    note = "with the .pyc files that pip makes"
    group.add("pip install: bytes of its files", "MB", [size], 50, note)
    group.add("pip install: blocks on the disk", "MB", [blocks], note="4 KiB at least for each")
    group.add("pip install: time", "s", [taken], note="from this machine's index and cache")


def _distributions(venv: Path) -> set[str]:
    line = [str(venv / "bin" / "python"), "-c", _COUNT]
    done = subprocess.run(line, check=True, timeout=60, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def _sizes(folder: Path) -> tuple[int, int]:
    """Return the bytes of all files, and of the blocks that hold them; links not followed."""
    found = [path.lstat() for path in folder.rglob("*")]
    files = [stat.st_size for stat in found if S_ISREG(stat.st_mode)]
    return sum(files), sum(stat.st_blocks * 512 for stat in found)
