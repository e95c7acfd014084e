"""The public names are exactly the listed ones, and listing them costs nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import envhub
from envhub import errors

HEAVY = ("asyncio", "anyio", "msgspec", "pydantic", "rich", "starlette", "uvicorn", "uvloop")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_the_lazy_table_and_the_typed_imports_agree() -> None:
    source = Path(envhub.__file__).read_text()
    typed = {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("envhub.")
        for alias in node.names
    }

    assert typed == envhub._HOME  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", envhub.__all__)  # type: ignore[attr-defined]
def test_a_public_name_resolves(name: str) -> None:
    assert getattr(envhub, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hob'"):
        envhub.Hob  # type: ignore[attr-defined]  # noqa: B018


def test_importing_envhub_loads_nothing_heavy() -> None:
    assert run(f"import sys, envhub; print([m for m in {HEAVY} if m in sys.modules])") == "[]"


def test_a_worker_loads_neither_hub_nor_door() -> None:
    code = (
        "import sys, envhub.worker.__main__; "
        "print([m for m in sys.modules if m.startswith(('envhub.hub', 'envhub.door',"
        " 'starlette', 'anyio', 'uvicorn'))])"
    )

    assert run(code) == "[]"


def test_a_runner_loads_the_standard_library_only() -> None:
    code = (
        "import sys, envhub.runner.__main__; "
        "print([m for m in ('msgspec', 'pydantic', 'anyio', 'envhub.hub') if m in sys.modules])"
    )

    assert run(code) == "[]"


def test_the_error_tree_in_the_docstring_is_the_real_one() -> None:
    def tree(cls: type[errors.EnvhubError], depth: int = 0) -> Iterator[tuple[int, str]]:
        yield depth, cls.__name__
        for child in cls.__subclasses__():
            yield from tree(child, depth + 1)

    written = re.findall(r"^( *)\* (\w+)", errors.__doc__ or "", re.MULTILINE)

    assert [(len(gap) // 4, name) for gap, name in written] == list(tree(errors.EnvhubError))


def test_error_codes_are_unique() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type)]
    codes = [c.code for c in classes if issubclass(c, errors.EnvhubError)]

    assert len(codes) == len(set(codes))
