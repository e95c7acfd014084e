"""The rules that docs/architecture.md states, read from the code.

Each rule is one table and one assertion, so breaking a rule names the file and the import.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SANDBOX = ROOT / "sandbox" / "envhub_sandbox"
MODULES = sorted([*(ROOT / "envhub").rglob("*.py"), *SANDBOX.rglob("*.py")])
LONGEST_FILE = 400

# part → the parts of envhub, and the outside packages, that it may import
MAY_IMPORT: dict[str, set[str]] = {
    "envhub_sandbox": {"envhub_sandbox"},
    "envhub.errors": set(),
    "envhub.wire": {"envhub.wire", "envhub.results", "envhub.errors", "msgspec"},
    "envhub.wire.websocket": {"websockets"},
    "envhub.runner": {"envhub.runner", "envhub.wire", "envhub.errors", "envhub_sandbox"},
    "envhub.authoring": {
        "envhub.authoring", "envhub.runner", "envhub.wire", "envhub.errors",
        "msgspec", "pydantic", "pydantic_core", "typing_extensions",
    },
    "envhub.worker": {
        "envhub.worker", "envhub.worker.gym", "envhub.worker.vectors", "envhub.authoring",
        "envhub.wire", "envhub.errors", "envhub_sandbox", "msgspec",
    },
    # in the session process of a vector environment only: its own numpy and gymnasium
    "envhub.worker.vectors": {
        "envhub.worker", "envhub.worker.several", "envhub.worker.whole", "envhub.wire",
        "envhub.errors",
    },
    "envhub.worker.several": {
        "envhub.worker", "envhub.worker.asked", "envhub.worker.shapes", "envhub.wire",
        "envhub.errors", "gymnasium",
    },
    "envhub.worker.asked": {"envhub.wire", "envhub.errors", "gymnasium"},
    "envhub.worker.whole": {
        "envhub.worker", "envhub.worker.shapes", "envhub.wire", "envhub.errors", "gymnasium",
    },
    "envhub.worker.shapes": {"envhub.wire", "envhub.errors", "gymnasium", "numpy"},
    "envhub.adapters.sb3": {
        "envhub.adapters", "envhub.wire", "envhub.errors", "gymnasium", "numpy",
        "stable_baselines3",
    },
    "envhub.adapters": {
        "envhub.adapters", "envhub.adapters.sb3", "envhub.client", "envhub.hub",
        "envhub.wire", "envhub.errors", "gymnasium", "numpy",
    },
    "envhub.worker.gym": {
        "envhub.authoring", "envhub.spaces", "envhub.wire", "envhub.errors", "gymnasium",
    },
    "envhub.spaces": {"envhub.errors", "gymnasium", "msgspec", "numpy"},
    "envhub.hub": {
        "envhub", "envhub.hub", "envhub.wire", "envhub.batch", "envhub.results",
        "envhub.errors",
        "envhub_sandbox", "anyio", "msgspec", "psutil", "uvloop", "yaml",
    },
    "envhub.results": set(),
    "envhub.batch": {"envhub.results", "envhub.errors"},
    "envhub.client": {
        "envhub.client", "envhub.batch", "envhub.wire", "envhub.results", "envhub.errors",
        "envhub.hub", "envhub_sandbox", "pydantic", "websockets",
    },
    "envhub.check": {
        "envhub", "envhub.check", "envhub.hub", "envhub.wire", "envhub.errors",
        "envhub_sandbox", "anyio", "msgspec", "psutil", "pydantic_core",
    },
    "envhub.door": {
        "envhub.door", "envhub.hub", "envhub.wire", "envhub.results", "envhub.errors",
        "envhub_sandbox", "anyio", "h11", "msgspec", "pydantic", "pydantic_core",
        "starlette", "uvicorn", "websockets",
    },
}  # fmt: skip
# beside agent code there is the standard library and nothing else
STANDARD_LIBRARY_ONLY = ("envhub/runner", "envhub/errors.py", "envhub/wire/framing.py",
                         "envhub/wire/plain.py", "envhub/wire/__init__.py")  # fmt: skip


def module_name(path: Path) -> str:
    base = SANDBOX.parent if path.is_relative_to(SANDBOX) else ROOT
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def part_of(module: str) -> str:
    """The longest key of MAY_IMPORT that `module` is inside of, else its first name."""
    inside = [p for p in MAY_IMPORT if module == p or module.startswith(p + ".")]
    return max(inside, key=len, default=module.partition(".")[0])


def imports(path: Path) -> Iterator[str]:
    """The modules that the file imports, by absolute name."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*up, node.module or ""]).strip(".")
            yield module
            # `from envhub import errors` imports envhub.errors, not a name of envhub
            if module == "envhub":
                yield from (f"envhub.{alias.name}" for alias in node.names)


RULED = [path for path in MODULES if part_of(module_name(path)) in MAY_IMPORT]


@pytest.mark.parametrize("path", RULED, ids=module_name)
def test_a_module_imports_only_what_its_part_may(path: Path) -> None:
    allowed = MAY_IMPORT[part_of(module_name(path))]
    outside = {part_of(name) for name in imports(path)} - set(sys.stdlib_module_names)

    assert outside - {"envhub"} <= allowed


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if str(p.relative_to(ROOT)).startswith(STANDARD_LIBRARY_ONLY)],
    ids=module_name,
)
def test_what_runs_beside_agent_code_needs_the_standard_library_only(path: Path) -> None:
    outside = {part_of(name) for name in imports(path)} - set(sys.stdlib_module_names)

    assert outside <= {
        "envhub",
        "envhub.runner",
        "envhub.wire",
        "envhub.errors",
        "envhub_sandbox",
    }


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "common", "misc", "base", "manager", "core"}

    assert not empty & {path.stem.strip("_") for path in MODULES}


def test_no_pickle_is_near_any_wire() -> None:
    users = [p for p in MODULES if {"pickle", "marshal", "shelve"} & set(imports(p))]

    assert users == []


def test_the_hub_never_imports_an_environment() -> None:
    environments = {folder.name for folder in (ROOT / "envs").iterdir()} | {"envs"}
    importers = [p for p in MODULES if environments & {n.partition(".")[0] for n in imports(p)}]

    assert importers == []
