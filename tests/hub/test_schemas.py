"""An environment's schema, pinned by those who were written for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import envhub
from envhub import EnvClient, Hub
from envhub.errors import SchemaMismatch, UsageError
from envhub.hub.environments import schemas
from tests.door.asking import ask
from tests.serving import ROOT, serving

ENVS = ROOT / "envs"
JSON: Callable[[], Any] = lambda: st.recursive(  # noqa: E731 (built when it is used)
    st.none() | st.booleans() | st.integers(-10, 10) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
DOCUMENTS = st.fixed_dictionaries(dict.fromkeys(schemas.PARTS, st.deferred(JSON)))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("--env", "echo") as url:
        yield url


async def document(hub: Hub) -> dict[str, Any]:
    return schemas.document(await hub.describe("echo"))


async def test_an_environment_that_is_as_it_was_is_opened() -> None:
    async with Hub(ENVS) as hub:
        found = await document(hub)
        for pinned in (found, schemas.digest(found)):
            async with hub.session("echo", schema=pinned) as session:
                await session.reset()
            with envhub.make("echo", envs=ENVS, schema=pinned) as env:
                env.reset()


async def test_one_that_has_changed_says_in_what_and_keeps_no_place() -> None:
    async with Hub(ENVS) as hub:
        pinned = await document(hub)
        pinned["action"]["properties"]["volume"] = {"type": "integer"}
        pinned["action"]["properties"]["message"]["type"] = "number"
        with pytest.raises(SchemaMismatch) as changed:
            await hub.open("echo", schema=pinned)

        assert changed.value.difference == (
            'action.properties.message.type: "number" became "string"',
            "action.properties.volume: removed",
        )
        assert "volume: removed" in str(changed.value)
        assert hub.active_sessions == 0
    with pytest.raises(SchemaMismatch):
        envhub.make("echo", envs=ENVS, schema=pinned)


async def test_a_digest_alone_is_compared() -> None:
    async with Hub(ENVS) as hub:
        with pytest.raises(SchemaMismatch) as changed:
            await hub.open("echo", schema="sha256:0")
        with pytest.raises(UsageError, match="expected a digest"):
            await hub.open("echo", schema="0")
        found = schemas.digest(await document(hub))

    assert (changed.value.expected, changed.value.found) == ("sha256:0", found)
    assert changed.value.difference == ()


async def test_over_the_wire_a_client_of_anybody_s_pins_by_a_header(url: str) -> None:
    address = url.removeprefix("http://")
    said = await ask(address, "GET", "/schema")
    digest = said.headers["envhub-schema"]
    same = await ask(address, "POST", "/reset", "{}", {"envhub-schema": digest})
    other = await ask(address, "POST", "/reset", "{}", {"envhub-schema": "sha256:0"})
    with EnvClient(url, headers={"envhub-schema": digest}).sync() as env:
        env.reset()
    with EnvClient(url, headers={"envhub-schema": "sha256:0"}).sync() as env:
        with pytest.raises(SchemaMismatch, match="another schema than was pinned"):
            env.reset()

    assert digest == schemas.digest(said.json)
    assert (same.status, other.status, other.headers["envhub-cause"]) == (
        200,
        409,
        "schema_mismatch",
    )


async def test_our_client_says_in_what_it_has_changed(url: str) -> None:
    pinned = (await ask(url.removeprefix("http://"), "GET", "/schema")).json
    async with EnvClient(url, schema=pinned) as env:
        await env.reset()
    del pinned["state"]["properties"]["last"]
    client = EnvClient(url, schema=pinned)
    with pytest.raises(SchemaMismatch) as changed:
        await client.connect()

    assert [line.partition(",")[0] for line in changed.value.difference] == [
        "state.properties.last: added"
    ]


@given(DOCUMENTS, DOCUMENTS)
def test_documents_differ_if_and_only_if_their_digests_do(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    shuffled = json.loads(json.dumps(dict(reversed(one.items()))))

    assert schemas.digest(shuffled) == schemas.digest(one)
    assert bool(schemas.difference(one, other)) == (
        schemas.digest(one) != schemas.digest(other)
    )
    assert schemas.difference(one, shuffled) == ()


def test_a_deep_or_long_difference_is_cut() -> None:
    deep = msgspec.json.decode(b'{"a":' * 200 + b"1" + b"}" * 200)
    many = {str(n): n for n in range(1000)}

    assert len(schemas.difference({"action": deep}, {"action": {}})) == 1
    assert schemas.difference({"action": many}, {"action": {}})[-1] == "and more"
