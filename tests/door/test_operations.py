"""What an operator asks a door: with the real parser of Prometheus, and a real hub."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from envhub import Hub
from envhub.door.app import create_app
from envhub.door.metrics import METRICS
from envhub.door.tokens import Tokens
from envhub.errors import CapacityError, EnvhubError
from tests.door.asking import Reply, ask
from tests.door.conftest import Served
from tests.serving import serving

PROBES = Path(__file__).parents[1] / "hub" / "envs"
Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub(PROBES, max_sessions=3, queue_s=0.05, queue_max=0) as hub:
        yield hub


async def scraped(address: str) -> Numbers:
    reply = await ask(address, "GET", "/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def of(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers[name, tuple(sorted(labels.items()))]


async def say(socket: ClientConnection, kind: str, **data: Any) -> dict[str, Any]:
    message = {"type": kind, "data": data} if kind in ("reset", "step") else {"type": kind}
    await socket.send(json.dumps(message))
    answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


async def test_a_loop_that_answers_is_well_whatever_else_is(hub: Hub, served: Served) -> None:
    async with served(hub, "broken") as address:
        reply = await ask(address, "GET", "/healthz")

    assert (reply.status, reply.json) == (200, {"status": "ok"})


async def test_ready_is_who_could_open_a_session(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        free = await ask(address, "GET", "/readyz")
        opened = [await hub.open("probe") for _ in range(3)]
        full = await ask(address, "GET", "/readyz")
        await opened[0].aclose()
        again = await ask(address, "GET", "/readyz")

    assert (free.status, free.json) == (200, {"status": "ready"})
    assert (full.status, full.json["status"], [*full.json["reasons"]]) == (
        503, "not ready", ["full"],
    )  # fmt: skip
    assert full.headers["retry-after"] == "1"
    assert again.status == 200


async def test_not_ready_says_all_that_stands_against_it(hub: Hub, served: Served) -> None:
    async with served(hub, "broken") as address:
        assert (await ask(address, "GET", "/readyz")).status == 200  # nobody knows it yet
        with pytest.raises(EnvhubError):
            await hub.open("broken")
        hub._watchdog.floor_bytes = 2**62
        reply = await ask(address, "GET", "/readyz")

    assert reply.status == 503
    assert {*reply.json["reasons"]} == {"broken", "memory"}
    assert "a_module_that_nobody_has" in reply.json["reasons"]["broken"]


async def test_every_metric_is_there_and_prometheus_reads_it(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        reply = await ask(address, "GET", "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(reply.text)}

    assert {*families} == {name.removesuffix("_total") for name in METRICS}
    for name, (kind, meaning) in METRICS.items():
        family = families[name.removesuffix("_total")]
        assert (family.type, family.documentation) == (kind, meaning)


async def test_what_a_client_does_is_in_the_metrics(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        async with connect(f"ws://{address}/ws") as socket:
            await say(socket, "reset")
            for _ in range(3):
                await say(socket, "step", code="")
            await say(socket, "step", code="1/0")
            await say(socket, "step", code="import os; os._exit(3)")
            numbers = await scraped(address)
            assert of(numbers, "envhub_sessions", environment="probe", state="lost") == 1
        for _ in range(3):
            await hub.open("probe")
        with pytest.raises(CapacityError):
            await hub.open("probe")
        after = await scraped(address)

    probe = {"environment": "probe"}
    assert of(numbers, "envhub_episodes_total", **probe) == 1
    assert of(numbers, "envhub_step_seconds_count", **probe) == 3
    assert of(numbers, "envhub_step_seconds_bucket", le="+Inf", **probe) == 3
    assert 0 < of(numbers, "envhub_step_seconds_sum", **probe) < 60
    failed = {"code": "environment_failed", "cause": ""}
    assert of(numbers, "envhub_errors_total", **probe, **failed) == 1
    lost = {"code": "worker_lost", "cause": "exited"}
    assert of(numbers, "envhub_errors_total", **probe, **lost) == 1
    assert of(numbers, "envhub_places_taken") == 1
    assert of(numbers, "envhub_worker_starts_total", worker="probe") == 1
    assert of(numbers, "process_resident_memory_bytes") > 2**20
    assert of(after, "envhub_sessions_closed_total", why="closed", **probe) == 1
    assert of(after, "envhub_sessions_opened_total", **probe) == 4
    assert of(after, "envhub_clients_refused_total", why="queue_full") == 1
    assert of(after, "envhub_ready") == 0


async def test_buckets_only_ever_grow_along_their_bounds(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        async with hub.session("probe") as env:
            await env.reset()
            await env.step({"code": ""})
            await env.step({"code": "import time; time.sleep(0.02)"})
            numbers = await scraped(address)
    buckets = [v for (name, _), v in numbers.items() if name == "envhub_step_seconds_bucket"]

    assert buckets == sorted(buckets)
    assert buckets[-1] == 2


async def test_no_word_of_a_client_is_a_label(hub: Hub, served: Served) -> None:
    word = "a-word-of-a-client"
    async with served(hub, "probe") as address:
        for path in (f"/envs/{word}/reset", f"/{word}/splits", f"/{word}"):
            await ask(address, "POST", path, b"{}")
        await ask(address, "GET", "/healthz", None, {"origin": f"http://{word}"})
        async with connect(f"ws://{address}/ws") as socket:
            await say(socket, "reset", episode_id=word)
            await say(socket, "step", code=f"raise ValueError({word!r})")
        reply = await ask(address, "GET", "/metrics")

    assert 'envhub_clients_refused_total{why="origin"} 1' in reply.text
    assert word not in reply.text


async def test_environments_are_listed_with_what_is_in_force(served: Served) -> None:
    async with Hub(PROBES, caps={"step_s": 5}) as hub, served(hub, "probe") as address:
        async with connect(f"ws://{address}/ws"):
            pass
        with pytest.raises(EnvhubError):
            await hub.open("broken")
        await ask(address, "GET", "/schema")
        listed = (await ask(address, "GET", "/v1/envs")).json["environments"]
    by_name = {row["name"]: row for row in listed}
    probe = by_name["probe"]

    assert (probe["version"], probe["isolation"], probe["agent_code"]) == (
        "0.1.0", "strict", False,
    )  # fmt: skip
    assert (probe["limits"]["step_s"], probe["limits"]["cpu_s"]) == (5, 2)
    assert probe["schema"].startswith("sha256:")
    assert (probe["broken"], by_name["slow"]["schema"]) == ("", "")
    assert "a_module_that_nobody_has" in by_name["broken"]["broken"]


async def test_a_session_is_listed_and_ended_by_its_id(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        async with connect(f"ws://{address}/ws") as socket:
            await say(socket, "reset")
            (known,) = (await ask(address, "GET", "/v1/sessions")).json["sessions"]
            where = f"/v1/sessions/{known['id']}"
            assert (await ask(address, "DELETE", where)).status == 204
            assert (await ask(address, "DELETE", where)).status == 404
            told = await say(socket, "step", code="")
        async with connect(f"ws://{address}/ws") as another:
            await say(another, "reset")  # its place is free again, and the door is well

    assert (known["environment"], known["state"], known["episode"]) == ("probe", "idle", 1)
    assert told["data"]["cause"] == "session_closed"
    assert hub.counters.totals()["probe"].closed["operator"] == 1


async def test_a_session_in_the_middle_of_a_call_can_be_ended(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        async with connect(f"ws://{address}/ws") as socket, anyio.create_task_group() as tasks:
            await say(socket, "reset")
            told: list[dict[str, Any]] = []

            async def hang() -> None:
                told.append(await say(socket, "step", code="import time; time.sleep(60)"))

            tasks.start_soon(hang)
            while (known := hub.sessions()[0]).state != "calling":
                await checkpoint()
            await ask(address, "DELETE", f"/v1/sessions/{known.id}")

    assert told[0]["data"]["cause"] == "session_closed"


async def test_the_summary_has_what_top_shows(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address, hub.session("probe") as env:
        await env.reset()
        await env.step({"code": ""})
        said = (await ask(address, "GET", "/v1/hub")).json
    (probe,) = [row for row in said["environments"] if row["name"] == "probe"]

    assert (said["hub"]["places"], said["hub"]["taken"], said["hub"]["tier"]) == (
        3,
        1,
        "strict",
    )
    assert (probe["sessions"], probe["steps"], probe["errors"]) == (1, 1, 0)
    assert (probe["workers"], said["not_ready"]) == (1, {})


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/hub", "/v1/sessions"])
async def test_a_page_of_another_site_is_told_nothing(
    hub: Hub, served: Served, path: str
) -> None:
    async with served(hub, "probe") as address:
        reply = await ask(address, "GET", path, None, {"origin": "http://evil.example"})

    assert reply.status == 403


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_without_tokens_sessions_are_this_machines_alone(hub: Hub, method: str) -> None:
    """Of `--insecure`: everybody may use it, and nobody from outside may end others' use."""
    app = create_app(hub, default="probe", any_host=True)
    async with hub.session("probe"):
        path = "/v1/sessions" + (f"/{hub.sessions()[0].id}" if method == "DELETE" else "")
        assert await status_of(app, method, path, "192.0.2.7") == 403
        assert await status_of(app, method, path, "127.0.0.1") in (200, 204)


async def status_of(app: Any, method: str, path: str, peer: str, **headers: str) -> int:
    """Ask an application itself, as somebody at an address."""
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        said.append(message)

    named = {"host": "box.example", **headers}
    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "root_path": "",
        "headers": [(k.encode(), v.encode()) for k, v in named.items()],
        "client": (peer, 1234), "server": ("box.example", 80), "scheme": "http",
        "http_version": "1.1", "asgi": {"version": "3.0"},
    }  # fmt: skip
    await app(scope, receive, send)
    return int(said[0]["status"])


GOOD = "a-token-of-this-test-only"
BEARING = {"authorization": f"Bearer {GOOD}"}


@pytest.mark.parametrize(
    ("method", "path", "stranger", "bearer"),
    [
        ("GET", "/healthz", 200, 200),
        ("HEAD", "/healthz", 200, 200),
        ("GET", "/readyz", 200, 200),
        ("POST", "/healthz", 401, 404),
        ("GET", "/healthz/", 401, 404),
        ("GET", "/envs/probe/healthz", 401, 404),
        ("GET", "/metrics", 401, 200),
        ("GET", "/v1/hub", 401, 200),
        ("GET", "/v1/envs", 401, 200),
        ("GET", "/v1/sessions", 401, 200),
        ("DELETE", "/v1/sessions/0123456789ab", 401, 404),
    ],
)
async def test_where_there_are_tokens_a_stranger_learns_only_whether_it_is_well(
    hub: Hub, method: str, path: str, stranger: int, bearer: int
) -> None:
    app = create_app(hub, default="probe", any_host=True, tokens=Tokens([GOOD]))

    assert await status_of(app, method, path, "192.0.2.7") == stranger
    assert await status_of(app, method, path, "192.0.2.7", **BEARING) == bearer


async def test_a_token_is_for_its_own_sessions(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    other, some = "another-token-of-this-test", "a-token-for-some-environments"
    file.write_text(
        f"{GOOD} name=anna sessions=1\n{other} name=ben\n{some} name=some envs=probe\n"
    )
    file.chmod(0o600)
    bens, somes = ({"authorization": f"Bearer {token}"} for token in (other, some))
    flags = ("--envs", str(PROBES), "--default", "probe", "--queue-s", "0.1",
             "--token-file", str(file))  # fmt: skip
    with serving(*flags) as url:
        address = url.removeprefix("http://")

        async def asked(path: str, headers: dict[str, str], method: str = "GET") -> Reply:
            return await ask(address, method, path, {}, headers)

        async with connect(f"ws://{address}/ws", additional_headers=BEARING) as socket:
            await say(socket, "reset")
            (known,) = (await asked("/v1/sessions", BEARING)).json["sessions"]
            where = f"/v1/sessions/{known['id']}"
            hers = (await asked(where, BEARING)).json
            assert (await asked("/v1/sessions", bens)).json == {"sessions": []}
            assert (await asked(where, bens)).status == 404
            assert (await asked(where, bens, "DELETE")).status == 404
            await say(socket, "step", code="")  # and hers goes on
            assert (await asked("/reset", BEARING, "POST")).status == 503
        assert (await asked("/envs/slow/reset", somes, "POST")).status == 403
        for path in ("/metrics", "/v1/hub"):
            assert (await asked(path, somes)).status == 403
        listed = (await asked("/v1/envs", somes)).json["environments"]
        refused = (await asked("/v1/hub", bens)).json["refused"]

    assert (known["client"], known["bill"]) == ("token:anna", None)
    assert (hers["bill"]["calls"], hers["bill"]["peak_bytes"] > 2**20) == (1, True)
    assert hers["sent_bytes"] > 0 < hers["received_bytes"]
    assert [row["name"] for row in listed] == ["probe"]
    assert refused == {"quota": 1, "environment": 1}


async def test_a_stranger_is_told_no_name_of_what_is_not_ready(
    hub: Hub, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"{GOOD}\n")
    file.chmod(0o600)
    flags = ("--envs", str(PROBES), "--default", "probe", "--max-sessions", "1",
             "--queue", "0", "--token-file", str(file))  # fmt: skip
    with serving(*flags) as url:
        address = url.removeprefix("http://")
        async with connect(f"ws://{address}/ws", additional_headers=BEARING) as socket:
            await say(socket, "reset")
            to_a_stranger = await ask(address, "GET", "/readyz")
            to_a_bearer = await ask(address, "GET", "/readyz", None, BEARING)

    assert (to_a_stranger.status, to_a_stranger.json["reasons"]) == (503, ["full"])
    assert "1 of 1 places" in to_a_bearer.json["reasons"]["full"]


async def test_openenvs_health_is_what_it_was(hub: Hub, served: Served) -> None:
    async with served(hub, "probe") as address:
        assert (await ask(address, "GET", "/health")).json == {"status": "healthy"}
        assert (await ask(address, "GET", "/envs")).json["default"] == "probe"
