"""Tokens with quotas: whose a call is, and how much of the hub is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

import envhub
from envhub.door import holders, tokens
from envhub.door.holders import Holder, Rate, holder_of
from envhub.door.tokens import Bearer, Tokens
from envhub.errors import CapacityError, NotAllowed, UsageError
from envhub.wire import native
from tests.door.asking import Reply, ask
from tests.protocol.raw import Raw, key
from tests.serving import serving

ALICE, BOB = "alices-secret-of-this-test", "bobs-secret-of-this-test"
SLOW = "slow-secret-of-test"
FILE = f"""
# one line for each
{ALICE} name=alice sessions=1 envs=echo
{BOB} sessions=3
{SLOW} rate=0.01 name=slow
"""
CREATE = {"jsonrpc": "2.0", "id": 1, "method": "openenv/session/create"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(FILE)
    file.chmod(0o600)
    chosen = ("--env", "echo", "--env", "coding", "--default", "echo", "--queue-s", "0.5")
    with serving(*chosen, "--token-file", str(file)) as url:
        yield url.removeprefix("http://")


def bearing(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def dial(address: str, token: str, path: str = "/ws") -> connect:
    return connect(f"ws://{address}{path}", proxy=None, additional_headers=bearing(token))


async def say(websocket: ClientConnection, kind: str, **data: Any) -> Any:
    await websocket.send(json.dumps({"type": kind, "data": data} if data else {"type": kind}))
    with anyio.fail_after(30):
        return json.loads(await websocket.recv())


async def call(address: str, token: str, method: str, **params: Any) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return (await ask(address, "POST", "/mcp", json.dumps(request), bearing(token))).json


# ------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("sessions=0", "`sessions` is a whole number above zero"),
        ("sessions=-1", "`sessions` is"),
        ("sessions=1.5", "`sessions` is"),
        ("sessions=", "`sessions` is"),
        ("sessions=99999999999999999999", "`sessions` is"),
        ("rate=0", "`rate` is a number above zero"),
        ("rate=-1", "`rate` is"),
        ("rate=nan", "`rate` is"),
        ("rate=inf", "`rate` is"),
        ("rate=fast", "`rate` is"),
        ("envs=", "`envs` is names"),
        ("envs=a,,b", "`envs` is"),
        ("name=", "`name` is 1 to 64"),
        ("name=a\x1b[31m", "`name` is"),
        ("name=" + "a" * 65, "`name` is"),
        ("name=first", "its name is that of line 1"),
        ("name=token-1", "its name is that of line 2"),
        ("colour=red", "word 2 is no KEY=VALUE"),
        (BOB, "word 2 is no KEY=VALUE"),
        ("sessions=1 sessions=2", "`sessions` is given twice"),
        (f"name={ALICE}", "must not be one"),
    ],
)
def test_a_line_that_means_nothing_is_named_and_not_shown(beside: str, words: str) -> None:
    other = "another-secret-of-this-test"
    lines = [f"{other} name=first", f"{SLOW} name=token-1", "# why", f"{ALICE} {beside}"]
    with pytest.raises(UsageError, match=words) as refused:
        Tokens(lines)

    said = f"{refused.value} {refused.value.hint}"
    assert said.startswith("line 4: ")
    assert not [secret for secret in (other, SLOW, ALICE, BOB) if secret in said]


def test_a_token_is_given_once() -> None:
    with pytest.raises(UsageError, match=r"line 2: this token was given before") as refused:
        Tokens([ALICE, f"{ALICE} sessions=1"])

    assert ALICE not in str(refused.value)


def test_a_line_says_whose_a_token_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tokens"
    file.write_text(FILE)
    file.chmod(0o600)
    monkeypatch.setenv(tokens.VARIABLE, "one-more-secret-of-this-test")
    known = tokens.given(file)
    assert known is not None
    alice = known.find(f"Bearer {ALICE}")
    bob = known.find(f"bearer {BOB}")
    single = known.find("Bearer one-more-secret-of-this-test")

    assert alice is not None
    assert bob is not None
    assert single is not None
    assert [h.name for h in known.holders] == ["token-env", "alice", "token-4", "slow"]
    assert (alice.sessions, alice.environments) == (1, frozenset({"echo"}))
    assert (bob.sessions, bob.environments, bob.rate) == (3, None, None)
    assert (single.sessions, single.environments, single.rate) == (None, None, None)
    assert {alice.key, bob.key} == {"token:alice", "token:token-4"}
    assert known.find(f"Bearer {ALICE} name=alice") is None


# ------------------------------------------------------------------ the holder


async def test_the_scope_has_the_holder_and_not_the_token() -> None:
    heard: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope)

    door = Bearer(application, Tokens([f"{ALICE} name=alice"]))
    headers = [(b"authorization", f"Bearer {ALICE}".encode())]
    scope = {"type": "http", "headers": headers, "client": ("192.0.2.1", 1)}
    await door(scope, None, None)  # type: ignore[arg-type]

    assert holder_of(HTTPConnection(heard[0])).name == "alice"
    assert ALICE not in repr(heard)


def test_without_tokens_everybody_is_anonymous_and_counts_by_host() -> None:
    found = holder_of(HTTPConnection({"type": "http", "client": ("192.0.2.1", 1)}))
    found.check("anything")

    assert (found.name, found.key) == ("anonymous", "192.0.2.1")
    assert (found.sessions, found.rate, found.environments) == (None, None, None)


async def test_a_seat_is_waited_for_until_one_of_its_own_is_left() -> None:
    holder = Holder("alice", "alice", sessions=1, queue_s=30)
    first = await holder.enter()
    async with anyio.create_task_group() as tasks:
        second: list[holders.Seat] = []

        async def enter() -> None:
            second.append(await holder.enter())

        tasks.start_soon(enter)
        await anyio.wait_all_tasks_blocked()
        assert (second, holder.active) == ([], 1)
        first.leave()
        first.leave()
    assert holder.active == 1
    second[0].leave()

    assert holder.active == 0


async def test_a_seat_that_nobody_leaves_is_refused_with_the_counts() -> None:
    holder = Holder("alice", "alice", sessions=2, queue_s=0)
    with await holder.enter(), await holder.enter():
        with pytest.raises(CapacityError, match="`alice` has 2 of its 2") as refused:
            await holder.enter()
    with await holder.enter():
        pass

    assert (refused.value.active, refused.value.limit, refused.value.retryable) == (2, 2, True)
    assert holder.active == 0


async def test_who_gives_up_waiting_takes_no_seat() -> None:
    holder = Holder("alice", "alice", sessions=1, queue_s=30)
    first = await holder.enter()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(holder.enter)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    first.leave()
    with await holder.enter():
        assert holder.active == 1


async def test_beyond_a_bound_sessions_do_not_even_wait_for_a_seat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(holders, "QUEUE_MAX", 2)
    holder = Holder("alice", "alice", sessions=1, queue_s=30)
    first = await holder.enter()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(holder.enter)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10), pytest.raises(CapacityError):
            await holder.enter()
        tasks.cancel_scope.cancel()
    first.leave()
    with anyio.fail_after(10):
        (await holder.enter()).leave()


async def test_a_call_beyond_the_rate_is_delayed() -> None:
    rate = Rate(5)
    for _ in range(5):
        with anyio.fail_after(0):  # at once, or never
            await rate.turn()
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0):
            await rate.turn()
    with anyio.fail_after(30):
        await rate.turn()


async def test_a_call_that_would_wait_too_long_is_refused_and_costs_nothing() -> None:
    rate = Rate(1 / (2 * holders.PATIENCE_S))
    await rate.turn()
    for _ in range(3):
        with pytest.raises(CapacityError, match="calls a second: the next turn is in 60 s"):
            await rate.turn()


async def test_calls_at_once_are_all_served_and_those_that_give_up_give_back() -> None:
    rate = Rate(1000)
    async with anyio.create_task_group() as tasks:
        for _ in range(3000):
            tasks.start_soon(rate.turn)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        for _ in range(1500):
            await rate.turn()


# -------------------------------------------------------------- every way in


async def test_an_environment_that_is_not_allowed_is_refused_by_every_route(
    address: str,
) -> None:
    async def refused(method: str, path: str) -> Reply:
        return await ask(address, method, f"/envs/coding{path}", "{}", bearing(ALICE))

    for method, path in (("GET", "/state"), ("POST", "/reset"), ("POST", "/step"),
                         ("GET", "/schema"), ("GET", "/metadata"), ("GET", "/health"),
                         ("POST", "/mcp"), ("DELETE", "/mcp"), ("GET", "")):  # fmt: skip
        reply = await refused(method, path)
        assert reply.status == 403, path
        assert reply.json == {"detail": "`alice` may not use environment `coding`"}
    for path in ("/envs/coding/ws", "/envs/coding/mcp", "/envs/nothing/ws"):
        with pytest.raises(InvalidStatus) as shaken:
            await dial(address, ALICE, path)
        assert shaken.value.response.status_code == 403
        assert b"`alice` may not use" in (shaken.value.response.body or b"")
    assert (await ask(address, "GET", "/envs/coding/health", None, bearing(BOB))).status == 200


async def test_only_what_is_allowed_is_listed(address: str) -> None:
    alices = (await ask(address, "GET", "/envs", None, bearing(ALICE))).json
    bobs = (await ask(address, "GET", "/envs", None, bearing(BOB))).json

    assert [e["name"] for e in alices["environments"]] == ["echo"]
    assert [e["name"] for e in bobs["environments"]] == ["coding", "echo"]
    assert alices["default"] == bobs["default"] == "echo"


async def test_one_session_too_many_is_told_how_many_there_are(address: str) -> None:
    async with dial(address, ALICE) as first:
        await say(first, "reset")
        async with dial(address, ALICE) as second:
            told = json.loads(await second.recv())
        stepped = await ask(address, "POST", "/reset", "{}", bearing(ALICE))
        created = await call(address, ALICE, "openenv/session/create")
        async with dial(address, ALICE, "/mcp") as third:
            refused = json.loads(await third.recv())
        async with dial(address, BOB) as other:
            assert (await say(other, "reset"))["type"] == "observation"

    assert told["data"]["code"] == "CAPACITY_REACHED"
    assert (told["data"]["active_sessions"], told["data"]["max_sessions"]) == (1, 1)
    assert (stepped.status, stepped.headers["envhub-cause"]) == (503, "capacity")
    assert created["error"]["data"] == {"active_sessions": 1, "max_sessions": 1}
    assert refused["error"]["data"] == {"active_sessions": 1, "max_sessions": 1}


async def test_every_end_of_a_session_gives_its_place_back(address: str) -> None:
    """Each of these would be one too many, if the one before still counted."""
    for _ in range(2):
        async with dial(address, ALICE) as websocket:
            await say(websocket, "reset")
        async with dial(address, ALICE) as websocket:
            await say(websocket, "step", message=1)  # which is none
            websocket.transport.abort()
        assert (await ask(address, "POST", "/reset", "{}", bearing(ALICE))).status == 200
        assert (await ask(address, "POST", "/step", "{}", bearing(ALICE))).status == 422
        key = (await call(address, ALICE, "openenv/session/create"))["result"]["session_id"]
        await call(address, ALICE, "openenv/session/close", session_id=key)
        async with dial(address, ALICE, "/mcp") as websocket:
            await websocket.send(json.dumps(CREATE))
            assert "session_id" in str(await websocket.recv())
        await call(address, ALICE, "tools/list")
        mcp = json.dumps({**CREATE, "method": "initialize"})
        opened = await ask(address, "POST", "/mcp", mcp, bearing(ALICE))
        session = {"mcp-session-id": opened.headers["mcp-session-id"], **bearing(ALICE)}
        assert (await ask(address, "DELETE", "/mcp", None, session)).status == 204


async def test_a_session_with_an_id_is_its_holders_alone(address: str) -> None:
    key = (await call(address, ALICE, "openenv/session/create"))["result"]["session_id"]
    path = f"/reset?session_id={key}"
    others = await ask(address, "POST", path, "{}", bearing(BOB))
    closed = await call(address, BOB, "openenv/session/close", session_id=key)
    async with dial(address, BOB, f"/ws?session_id={key}") as websocket:
        attached = json.loads(await websocket.recv())
    own = await ask(address, "POST", path, "{}", bearing(ALICE))
    await call(address, ALICE, "openenv/session/close", session_id=key)

    assert (others.status, own.status) == (404, 200)
    assert closed["error"]["message"] == f"Unknown session_id: {key}"
    assert attached["data"]["message"] == f"Unknown session_id: {key}"


async def test_beyond_the_rate_a_call_is_refused_once_it_would_wait_too_long(
    address: str,
) -> None:
    async with dial(address, SLOW) as websocket:
        first = await say(websocket, "reset")  # its one call in a hundred seconds
        second = await say(websocket, "step", message="x")
        free = await say(websocket, "receipt")
        third = await say(websocket, "state")
    over_http = await ask(address, "POST", "/reset", "{}", bearing(SLOW))
    tool = await call(address, SLOW, "tools/list")

    assert (first["type"], free["type"]) == ("observation", "receipt")
    for told in (second, third):
        assert (told["data"]["cause"], told["type"]) == ("capacity", "error")
    assert (over_http.status, over_http.headers["retry-after"]) == (503, "1")
    assert "calls a second" in tool["error"]["message"]


def test_the_native_protocol_has_the_same_quotas(address: str) -> None:
    url = f"http://{address}"
    with envhub.connect(url, token=ALICE) as hub:
        with pytest.raises(NotAllowed, match="`alice` may not use environment `coding`"):
            hub.make("coding")
        with hub.make("echo") as one:
            one.reset()
            with pytest.raises(CapacityError, match="`alice` has 1 of its 1") as refused:
                hub.make("echo")
        with hub.make("echo") as one:
            one.reset()
    with envhub.connect(url, token=BOB) as hub, hub.make("coding") as one:
        one.reset()
    with envhub.connect(url, token=SLOW) as hub, hub.make("echo") as one:
        with pytest.raises(CapacityError, match="calls a second"):
            for _ in range(3):
                one.reset()

    assert (refused.value.active, refused.value.limit) == (1, 1)


def test_a_native_session_is_its_holders_alone(address: str) -> None:
    own = key()
    with Raw(f"http://{address}", bearing(BOB)) as bob:
        bob.say(native.Open(1, own, "echo"))
        assert isinstance(bob.hear(), native.Opened)
        with Raw(f"http://{address}", bearing(SLOW)) as other:
            other.say(native.Resume(1, own))
            lost = other.hear()
        bob.say(native.Close(1))
        assert isinstance(bob.hear(), native.Closed)

    assert lost.code == "session_lost"


def test_not_allowed_is_an_error_with_a_code_of_its_own() -> None:
    holder = Holder("alice", "alice", environments=frozenset({"echo"}))
    holder.check("echo")
    with pytest.raises(NotAllowed, match="`alice` may not use environment `coding`") as refused:
        holder.check("coding")

    assert (refused.value.code, refused.value.retryable) == ("not_allowed", False)
