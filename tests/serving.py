"""`envhub serve` as a program of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def serving(*arguments: str, log: Path | None = None) -> Iterator[str]:
    """Hold a server on a free port; yield its address. It must end well when it is told to.

    Its log goes into the file `log`, if that is given.
    """
    command = [sys.executable, "-m", "envhub", "serve", "--port", "0", *arguments]
    with ExitStack() as stack:
        written = stack.enter_context(log.open("wb")) if log is not None else None
        server = stack.enter_context(
            subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=written, text=True
            )
        )
        try:
            assert server.stdout is not None
            said = ""
            while not (found := re.search(r"listening on (https?://\S+)", said)):
                line = server.stdout.readline()
                assert line, f"the server ended, having said {said}"
                said += line
            yield found[1]
            server.terminate()
            server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 0
