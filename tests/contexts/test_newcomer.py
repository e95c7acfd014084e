"""docs/writing-an-environment.md, word for word, with an empty home and nothing installed.

Only the port is another: 8000 may be somebody's. Run by root it is tried a second time by an
ordinary user, who can read the checkout and no more.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.test_architecture import ROOT
from tests.test_docs import DOCS, blocks

pytestmark = pytest.mark.timeout(900)
PAGE = (DOCS / "writing-an-environment.md").read_text().partition("## Where it runs")[0]
NOBODY = 65534
# a newcomer's `python3`: the one that ours is built on, for the system's may be too old
PYTHONS = Path(sys.base_prefix) / "bin"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Newcomer:
    """Somebody with an empty home, and a copy of the repository that they can only read."""

    def __init__(self, place: Path, user: int) -> None:
        self.user = user
        self.home, self.checkout = place / "home", place / "checkout"
        self.home.mkdir()
        tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
        for name in filter(None, tracked.split("\0")):
            target = self.checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
        for path in (self.checkout, *self.checkout.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.chown(self.home, user, user)

    def shell(self, commands: str) -> subprocess.Popen[str]:
        """Run commands as they would be typed, each of them to succeed."""
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_"))}
        return subprocess.Popen(
            ["bash", "-e", "-c", commands],
            env={"HOME": str(self.home), "PATH": f"{PYTHONS}:{PATH}", **kept},
            cwd=self.checkout,
            user=self.user,
            group=self.user,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def types(self, commands: str) -> str:
        """Run commands and return what they said."""
        with self.shell(commands) as shell:
            said, _ = shell.communicate(timeout=600)
        assert shell.returncode == 0, said
        return said


def users() -> list[int]:
    """Ourselves, and somebody ordinary if we are root."""
    if os.geteuid():
        return [os.geteuid()]
    with suppress(KeyError):
        return [0, pwd.getpwnam("tester").pw_uid]
    return [0, NOBODY]


@pytest.fixture(params=users(), ids=lambda user: f"uid {user}")
def newcomer(request: pytest.FixtureRequest) -> Iterator[Newcomer]:
    # not below pytest's own folder, through which no other user passes
    with tempfile.TemporaryDirectory(prefix="envhub-newcomer-") as place:
        Path(place).chmod(0o755)
        yield Newcomer(Path(place), request.param)


def test_a_newcomer_serves_an_environment_of_their_own(newcomer: Newcomer) -> None:
    install, make, serve, client, play = blocks(PAGE, "sh")
    (program,) = blocks(PAGE, "python")
    newcomer.types(install)
    said = newcomer.types(make)
    assert "3 passed" in said
    assert "15 passed" in said

    entering = ". ~/envhub-venv/bin/activate; cd ~/my-envs; exec "
    server = newcomer.shell(f"{entering}{serve.strip()} --port 0")
    with server:
        try:
            seen = ""
            assert server.stdout is not None
            while not (found := re.search(r"listening on (http://\S+)", seen)):
                line = server.stdout.readline()
                assert line, seen
                seen += line
            (newcomer.home / "my-envs" / "play.py").write_text(
                program.replace("http://127.0.0.1:8000", found[1])
            )
            said = newcomer.types(client + play)
        finally:
            server.terminate()

    assert said.strip().endswith("reward 1.0")
    assert "isolation strict" in seen
