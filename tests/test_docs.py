"""The documents say what the code says. They cannot drift, because this file fails first."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import click
import msgspec
import pytest

import envhub
from envhub.check.conformance import CHECKS
from envhub.cli import _COMMANDS, cli
from envhub.cli.check import check
from envhub.door.metrics import METRICS
from envhub.door.operations import ROUTES
from envhub.hub.accounts.events import EVENTS
from envhub.hub.accounts.facts import SessionFacts
from envhub.hub.environments.manifest import NOT_IN_THE_FILE, Deadlines, Manifest, Runner
from envhub.wire import lifecycle
from envhub_sandbox import Limits
from tests.serving import serving
from tests.test_architecture import MAY_IMPORT, ROOT

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "envs").rglob("*.md")]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_drawn_lifecycle_is_the_real_one() -> None:
    drawn = re.search(
        r"```mermaid\n(.*?)\n```", (DOCS / "architecture.md").read_text(), re.DOTALL
    )

    assert drawn is not None
    assert drawn[1] == lifecycle.diagram()


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_every_part_is_on_the_map(part: str) -> None:
    assert part in (DOCS / "architecture.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_files_that_a_page_names_exist(page: Path) -> None:
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
    named = re.findall(
        r"`((?:tests|docs|envs|envhub|sandbox)/[\w/.-]+\.\w+)`", page.read_text()
    )

    assert [link for link in linked if not (page.parent / link).exists()] == []
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_manifests_keys_are_documented_with_their_defaults() -> None:
    page = (DOCS / "writing-an-environment.md").read_text()
    (text,) = blocks(page, "toml")
    written = tomllib.loads(text)
    limits = Limits().as_dict()

    assert {*written} == {f.name for f in msgspec.structs.fields(Manifest)} - NOT_IN_THE_FILE
    assert written["deadlines"] == msgspec.to_builtins(Deadlines())
    assert written["limits"] == limits
    assert {*written["runner"]} == {f.name for f in msgspec.structs.fields(Runner)}


def test_readmes_two_commands_do_the_set_up_and_ci_calls_the_second() -> None:
    demo, test, *_ = blocks(README, "sh")

    assert demo.strip().endswith(".venv/bin/envhub demo")
    assert test.strip() in (ROOT / ".ci" / "run").read_text()


def examples(page: str) -> list[str]:
    """The programs on a page that stand alone, but for those that need an id's packages."""
    return [b for b in blocks(page, "python") if "import envhub" in b and "gym:" not in b]


@pytest.mark.parametrize("code", examples(README))
def test_readmes_examples_run(code: str) -> None:
    with ExitStack() as stack:
        if "127.0.0.1:8000" in code:  # which the server of the lines above would have
            url = stack.enter_context(serving())
            code = code.replace("http://127.0.0.1:8000", url)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_readmes_environment_can_be_played(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "env.toml").write_text(next(b for b in blocks(README, "toml") if "guess" in b))
    (tmp_path / "env.py").write_text(
        next(b for b in blocks(README, "python") if "class Guess" in b)
    )
    with envhub.make("guess", envs=tmp_path) as env:
        first = env.reset(seed=1, highest=4)
        rewards = [env.step({"number": n}).reward for n in range(1, 3)]

    assert first.observation.hint == "1 to 4"
    assert rewards == [0.0, 1.0]


def test_every_check_is_documented_with_its_claim() -> None:
    page = (DOCS / "writing-an-environment.md").read_text()

    assert [c.id for c in CHECKS if f"| `{c.id}` | {c.claim} |" not in page] == []
    assert [c.id for c in CHECKS if c.id not in (check.help or "")] == []


def test_every_metric_and_every_event_is_documented_with_its_meaning() -> None:
    page = (DOCS / "operations.md").read_text()
    metrics = [
        f"| `{name}` | {kind} | {meaning} |" for name, (kind, meaning) in METRICS.items()
    ]
    events = [f"| `{name}` | {meaning} |" for name, meaning in EVENTS.items()]

    assert [row for row in metrics + events if row not in page] == []
    assert page.count("| `envhub_") == sum(name.startswith("envhub_") for name in METRICS)


def test_every_route_and_every_field_of_a_session_is_documented() -> None:
    page = (DOCS / "operations.md").read_text()
    routes = [route.path for route in ROUTES]
    fields = [field.name for field in msgspec.structs.fields(SessionFacts)]

    assert [path for path in routes if f" {path}`" not in page] == []
    assert [name for name in fields if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_and_option_has_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)

    assert command is not None
    assert command.help
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert [o.name for o in options if not o.help] == []


def test_the_changelog_names_this_version_or_unreleased() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert f"## {envhub.__version__}" in changelog or "## Unreleased" in changelog
