"""`python -m tests.sabotage [--markdown | --search [NAME…]]`: which attack misses what.

Without a word: verify every row, print the table, and exit with 1 when there is a gap.
`--search` finds rows for every protection, or for those whose name has one of these in it.
"""

from __future__ import annotations

import json
import sys

from tests.sabotage.rows import CLOSED, NO_WALL, Row
from tests.sabotage.search import Search
from tests.sabotage.trying import targets
from tests.sabotage.verifying import gaps, rows_here, verified
from tests.sabotage.worlds import protections


def main(words: list[str]) -> int:
    """Return the exit code."""
    if words[:1] == ["--search"]:
        return search(words[1:])
    if words not in ([], ["--markdown"]):
        print(__doc__)
        return 2
    return verify(markdown=bool(words))


def search(wanted: list[str]) -> int:
    """Print rows, as rows.toml has them."""
    with targets() as after:
        found = Search(after)
        for protection in protections():
            if wanted and not any(word in str(protection) for word in wanted):
                continue
            companions, attacks = next(found.rows(protection), ((), []))
            if attacks:
                without = f", without = {json.dumps(companions)}" if companions else ""
                print(f'"{protection}" = {{ attack = "{attacks[0]}"{without} }}')
            else:
                print(f"# {protection}: nothing misses it")
    return 0


def verify(*, markdown: bool) -> int:
    """Print the table; return 1 if a row of it does not hold, or one is missing."""
    found = protections()
    here, missing = rows_here(found), gaps(found)
    with targets() as after:
        results = verified(here, after)
    failed = [(row, result) for row, result in results.items() if not result.holds]
    lines = [("protection", "also removed", "the attack that then works")]
    lines += [shown(row) for row in here]
    lines += [
        (name, ", ".join(rest), "none: nothing is built") for name, rest in CLOSED.items()
    ]
    print("\n".join(table(lines, markdown=markdown)))
    if not markdown:
        print(f"\n{len(here)} rows, {len(CLOSED)} that end everything, "
              f"{len(NO_WALL)} that are no wall by themselves")  # fmt: skip
    for row, result in failed:
        print(f"does not hold: {row}: {result}", file=sys.stderr)
    for name in missing:
        print(f"a gap: nothing misses {name}", file=sys.stderr)
    return 1 if failed or missing else 0


def shown(row: Row) -> tuple[str, str, str]:
    """Return the cells of a row."""
    return row.protection, ", ".join(row.companions), row.attack


def table(lines: list[tuple[str, str, str]], *, markdown: bool) -> list[str]:
    """Return the lines of a table."""
    if markdown:
        cells = [[f"`{cell}`" if at < 2 and cell else cell for at, cell in enumerate(line)]
                 for line in lines[1:]]  # fmt: skip
        head = [f"| {' | '.join(lines[0])} |", "|---|---|---|"]
        return [*head, *(f"| {' | '.join(line)} |" for line in cells)]
    return [f"{name:<72} {attack}{f'  (without {rest})' if rest else ''}"
            for name, rest, attack in lines]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
