"""The clients of OpenEnv's other versions play on our server as that of 0.10 does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.ecosystem.installed import python_or_skip, run
from tests.serving import serving

pytestmark = pytest.mark.timeout(1800)
HERE = Path(__file__).parent
# the last of each line that has differed on the wire or in the client's API
VERSIONS = (
    "openenv-core==0.2.3",
    "openenv-core==0.3.0",
    "openenv==0.3.1",
    "openenv==0.4.2",
    "openenv==0.9.0",
    "openenv==0.10.0",
)
FOLDERS = {
    "guess_env": HERE / "envs" / "guess_env",
    "tools_env": HERE.parent / "openenv" / "envs" / "tools_env",
}


@pytest.fixture(scope="module")
def addresses() -> Iterator[list[str]]:
    """Hold two servers, so that each environment stands at a root and at a path."""
    with ExitStack() as servers:
        found: list[str] = []
        for name in FOLDERS:
            url = servers.enter_context(serving(*map(str, FOLDERS.values()), "--default", name))
            found += (name, url)
            for other in FOLDERS:
                found += (other, f"{url}/envs/{other}")
        yield found


@pytest.mark.parametrize("version", VERSIONS)
def test_each_client_plays_at_the_root_and_by_name(addresses: list[str], version: str) -> None:
    said = run(
        python_or_skip(version), HERE / "programs" / "play.py", HERE / "envs", *addresses
    )

    # four plays of one, three of the other, each at a root and at two paths
    assert len(said.splitlines()) == 7 * 3


@pytest.mark.parametrize("version", ["openenv==0.3.1", "openenv==0.10.0"])
def test_openenv_s_own_check_of_a_server_passes(addresses: list[str], version: str) -> None:
    openenv = python_or_skip(version).parent / "openenv"
    root, _, by_name, *_ = addresses[1::2]
    for address in (root, by_name):
        command: list[str | Path] = [openenv, "validate", "--url", address, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        criteria = json.loads(done.stdout)["criteria"]

        assert [c for c in criteria if not c["passed"]] == []
        assert len(criteria) == 6
