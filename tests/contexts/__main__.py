"""`python -m tests.contexts [NAME -- COMMAND…]`: list the contexts, or try something in one."""

from __future__ import annotations

import sys

from tests.contexts.contexts import CONTEXTS, FIXED
from tests.contexts.making import FAILED, run


def main(words: list[str]) -> int:
    """Return the command's exit code; 125 if there is none to return."""
    if not words:
        width = max(map(len, CONTEXTS))
        for name, context in CONTEXTS.items():
            print(f"{name:<{width}}  {context.imitates}; lacks {context.lacks}")
        return 0
    name, *rest = words
    known = {**CONTEXTS, **FIXED}
    if name not in known or rest[:1] != ["--"] or not rest[1:]:
        print("usage: python -m tests.contexts [NAME -- COMMAND…]", file=sys.stderr)
        if name not in known:
            print(f"no context `{name}`; there is {', '.join(known)}", file=sys.stderr)
        return FAILED
    return run(known[name], rest[1:])


sys.exit(main(sys.argv[1:]))
