"""The four accidents on both servers, and the documents' tables of what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.differential.containment import HEAD, row, seen
from tests.differential.differences import DIFFERENCES
from tests.openenv.accidents import ACCIDENTS, Accident

PAGE = Path(__file__).parents[2] / "docs" / "from-openenv.md"


@pytest.mark.openenv
@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda accident: accident.play.__name__)
def test_both_servers_do_what_the_table_says(accident: Accident, tmp_path: Path) -> None:
    assert seen(accident, tmp_path) == (accident.stock, accident.ours)


def test_the_documents_have_the_table() -> None:
    rows = [row(each, each.stock, each.ours) for each in ACCIDENTS]

    assert "\n".join([HEAD, *rows]) in PAGE.read_text()


def test_the_documents_have_what_is_declared() -> None:
    rows = [f"| {each.name} | {each.why} |" for each in DIFFERENCES]

    assert "\n".join(["| what differs | why |\n|---|---|", *rows]) in PAGE.read_text()
