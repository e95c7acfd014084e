"""What an app's author says of it, on the routes: its name, its metadata, its mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.door.asking import Reply, ask
from tests.openenv.conftest import ENVS
from tests.serving import serving

pytestmark = pytest.mark.openenv
SIMULATION = [("GET", "/state"), ("POST", "/reset"), ("POST", "/step")]


@pytest.fixture(scope="module")
def production(cache: object) -> Iterator[str]:
    with serving(str(ENVS / "counter_env"), "--mode", "production") as url:
        yield url.removeprefix("http://")


async def answered(address: str, method: str, path: str) -> Reply:
    return await ask(address, method, path, '{"action":{}}' if method == "POST" else None)


async def test_metadata_is_what_the_environment_s_own_method_says(address: str) -> None:
    reply = await ask(address, "GET", "/envs/tools_env/metadata")

    assert reply.json == {
        "name": "Sums",
        "description": "Adds.",
        "readme_content": None,
        "version": None,
        "author": "somebody",
        "documentation_url": None,
    }


async def test_the_name_in_its_routes_is_the_app_s_and_not_the_folder_s(address: str) -> None:
    listed = await ask(address, "GET", "/envs/whole_env/list_environments")
    there = await ask(address, "GET", "/envs/counter_env/Counter/splits")
    other = await ask(address, "GET", "/envs/counter_env/counter_env/splits")

    assert listed.json == ["Whole"]
    assert (there.status, there.json["detail"]) == (
        501,
        "list_splits is not supported for this environment",
    )
    assert (other.status, other.json) == (404, {"detail": "unknown environment 'counter_env'"})


@pytest.mark.parametrize(("method", "path"), SIMULATION)
async def test_in_production_nobody_resets_or_steps_over_http(
    address: str, production: str, method: str, path: str
) -> None:
    """Its author has said so, or the operator."""
    by_author = await answered(address, method, f"/envs/whole_env{path}")
    by_operator = await answered(production, method, path)
    simulated = await answered(address, method, f"/envs/counter_env{path}")

    assert (by_author.status, by_author.json) == (404, {"detail": "Not Found"})
    assert (by_operator.status, by_operator.json) == (404, {"detail": "Not Found"})
    assert simulated.status == 200


async def test_the_openapi_document_is_true_to_the_mode(address: str, production: str) -> None:
    paths = [
        (await ask(where, "GET", f"{prefix}/openapi.json")).json["paths"].keys()
        for where, prefix in (
            (address, "/envs/whole_env"), (production, ""), (address, "/envs/counter_env"),
        )
    ]  # fmt: skip
    hidden = {path for _, path in SIMULATION}

    assert hidden.isdisjoint(paths[0])
    assert hidden.isdisjoint(paths[1])
    assert hidden <= paths[2]
