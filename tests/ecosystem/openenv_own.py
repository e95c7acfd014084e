"""Run OpenEnv's own tests that ask a server, against its server and against ours.

    python -m tests.ecosystem.openenv_own FOLDER_OF_OPENENV_REPOSITORY [PART_OF_A_FILE...]

Prints the table of docs/openenv-tests.md. The tests and the environments are taken as they
are: plugins of pytest, programs/another_server.py and another_app.py, see to it that they ask
another server than they would.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.ecosystem.installed import NotInstallable, cache, python_with
from tests.serving import ROOT, serving

PROGRAMS = Path(__file__).parent / "programs"
SERVE = [sys.executable, "-m", "envhub", "serve"]
TOOLS = ("pytest", "pytest-asyncio", "pytest-timeout", "requests", "gunicorn", "numpy",
         "matplotlib", "open_spiel")  # fmt: skip
OLD, NEW = "openenv==0.3.1", "openenv==0.10.0"
SUITE_S = 900
TOLD = 100  # characters of a reason
NAMED = 3  # tests that one reason names


@dataclass(frozen=True)
class Suite:
    """A file of tests.

    Args:
        file: below the repository.
        client: the version of OpenEnv that it runs with, and that serves when stock does.
        environments: those it starts servers of.
        held: served on port 8000 while it runs; "" for none.
        in_process: it makes its server in its own process.
        unnamed: a package that the environment's image has and its pyproject.toml does not
            name; we serve a copy that does.
    """

    file: str
    client: str
    environments: tuple[str, ...] = ()
    held: str = ""
    in_process: bool = False
    unnamed: str = ""


@dataclass
class Outcome:
    """What came of a suite: the names that passed, and why the others did not."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def counts(self) -> str:
        return f"{len(self.passed)} / {len(self.failed)} / {len(self.skipped)}"


WEB = "tests/envs/test_websockets.py"
CLIENT = "tests/test_core/test_generic_client.py"
SUITES = (
    Suite(WEB, OLD, ("echo_env", "connect4_env")),
    Suite(WEB, NEW, ("echo_env", "connect4_env")),
    Suite("tests/envs/test_maze_environment.py", NEW, ("maze_env",)),
    Suite("tests/envs/test_dipg_environment.py", NEW, ("dipg_safety_env",)),
    Suite(
        "tests/envs/test_openspiel_environment.py",
        NEW,
        ("openspiel_env",),
        unnamed="open_spiel",
    ),
    Suite("tests/core/test_simulation_mode_preserves_api.py", NEW, in_process=True),
    Suite("tests/core/test_production_mode_mcp.py", NEW, in_process=True),
    Suite("tests/core/test_mcp/test_mcp_integration.py", NEW, in_process=True),
    Suite("tests/core/test_production_mode_routes.py", NEW, in_process=True),
    Suite(CLIENT, OLD, held="echo_env"),
    Suite(CLIENT, NEW, held="echo_env"),
    Suite("tests/core/test_mcp/test_mcp_client.py", OLD),
    Suite("tests/core/test_mcp/test_mcp_client.py", NEW),
    Suite("tests/core/test_mode_selection.py", OLD),
    Suite("tests/core/test_mode_selection.py", NEW),
)
VALIDATED = ("chess_env", "coding_env", "connect4_env", "echo_env", "maze_env", "wildfire_env")


def main(repository: Path, parts: list[str]) -> None:
    os.environ["ENVHUB_CACHE"] = str(cache() / "envhub")
    _build(repository)
    for name, passed, of in validate(repository):
        print(f"validate --url {name}: {passed} of {of}", flush=True)
    print("\n| file | client | stock | envhub | why |\n|---|---|---|---|---|")
    for suite in SUITES:
        if parts and not any(part in suite.file for part in parts):
            continue
        try:
            stock, ours = run(suite, repository), run(suite, repository, SERVE)
        except NotInstallable as error:
            print(f"| {suite.file} | {suite.client} | not installable: {error} | | |")
            continue
        why = "; ".join(_reasons(stock, ours))
        cells = (suite.file, suite.client, stock.counts(), ours.counts(), why)
        print(f"| {' | '.join(cells)} |", flush=True)


def _build(repository: Path) -> None:
    """Install what the environments need, for tests that wait ten seconds for a server."""
    folders = {repository / "envs" / name for name in VALIDATED}
    for suite in SUITES:
        names = {*suite.environments, suite.held} - {""}
        folders |= {_environments(repository, suite) / name for name in names}
    for folder in sorted(folders):
        command = [sys.executable, "-m", "envhub", "build", str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{folder.name} cannot be built: {done.stderr.strip()}")


def validate(repository: Path) -> Iterator[tuple[str, int, int]]:
    """Ask OpenEnv's own check about several environments; yield what it says of each."""
    openenv = python_with(NEW).parent / "openenv"
    folders = [str(repository / "envs" / name) for name in VALIDATED]
    with serving(*folders) as url:
        for path in ("", *(f"/envs/{name}" for name in VALIDATED)):
            done = subprocess.run(
                [openenv, "validate", "--url", url + path, "--json"],
                capture_output=True,
                text=True,
                timeout=120,
            )
            report = json.loads(done.stdout)
            criteria = report["criteria"]
            yield path or "/", sum(c["passed"] for c in criteria), len(criteria)


def run(suite: Suite, repository: Path, serve: list[str] | None = None) -> Outcome:
    """Run one file of tests.

    Args:
        suite: which.
        repository: where it is.
        serve: the command of another server; None for the stock one.

    Raises:
        NotInstallable: what it runs with cannot be had here.
    """
    python = python_with(suite.client, *TOOLS)
    path = (PROGRAMS, repository, repository / "envs")
    told = {
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "ANOTHER_SERVER": json.dumps(serve),
        "ANOTHER_SERVER_ENVS": str(_environments(repository, suite)),
        "ANOTHER_SERVER_HELD": suite.held,
    }
    plugins = ["no:cacheprovider", "another_server"]
    if suite.in_process:
        plugins[1:] = ["another_app"] if serve else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "--timeout=180", *(f"-p{plugin}" for plugin in plugins)]
        done = subprocess.run(
            [python, "-m", "pytest", *options, f"--junitxml={report}", suite.file],
            env=os.environ | told,
            cwd=repository,
            capture_output=True,
            text=True,
            timeout=SUITE_S,
        )
        if not report.exists():
            raise RuntimeError(done.stdout + done.stderr)
        return _read(report)


def _environments(repository: Path, suite: Suite) -> Path:
    """Return the folder of what is served: the repository's, or a copy that names a package."""
    if not suite.unnamed:
        return repository / "envs"
    copies = cache() / "openenv-envs"
    for name in suite.environments:
        shutil.copytree(repository / "envs" / name, copies / name, dirs_exist_ok=True)
        project = copies / name / "pyproject.toml"
        text = project.read_text()
        project.write_text(
            text.replace("dependencies = [", f'dependencies = ["{suite.unnamed}",', 1)
        )
    return copies


def _read(report: Path) -> Outcome:
    outcome = Outcome()
    for case in Xml.parse(report).getroot().iter("testcase"):
        name = case.get("name", "")
        for tag, found in ("failure", outcome.failed), ("error", outcome.failed), (
            "skipped", outcome.skipped
        ):  # fmt: skip
            node = case.find(tag)
            if node is not None:
                said = node.get("message", "").splitlines() or [""]
                found[name] = said[0][:TOLD]
                break
        else:
            outcome.passed.append(name)
    return outcome


def _reasons(stock: Outcome, ours: Outcome) -> Iterator[str]:
    """Say why tests failed or were left out, and whether stock differs; alike ones at once."""
    alike: dict[str, list[str]] = {}
    for name in sorted({*stock.failed, *stock.skipped, *ours.failed, *ours.skipped}):
        theirs, here = (
            "failed" if name in o.failed else "skipped" if name in o.skipped else "passed"
            for o in (stock, ours)
        )
        said = {**stock.skipped, **stock.failed, **ours.skipped, **ours.failed}[name]
        where = f"{here} on both" if theirs == here else f"stock {theirs}, envhub {here}"
        alike.setdefault(f"{where}: {said.replace('|', '/')}", []).append(name)
    for reason, names in alike.items():
        yield f"{', '.join(names) if len(names) <= NAMED else f'{len(names)} tests'} {reason}"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
