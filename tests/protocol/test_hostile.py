"""Clients that want more than is theirs, or are in nobody's way only by luck."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

import envhub
from envhub.door.native.lane import Lane
from envhub.door.native.outlet import MAX_UNSENT_BYTES
from envhub.wire import native
from tests.protocol.lines import outlet
from tests.protocol.raw import Raw, key, packed
from tests.serving import serving

MB = 10**6
TOKEN = "a-token-of-a-test-0001"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PROBE = ("--envs", "tests/hub/envs", "--env", "probe", "--drain-s", "0")
LINGERS = ("--envs", "tests/protocol/envs", "--env", "lingers", "--drain-s", "0")


def opened(client: Raw, session: int = 1, environment: str = "probe") -> bytes:
    own = key()
    client.say(native.Open(session, own, environment), native.Reset(session, 1, 0, b""))
    assert isinstance(client.hear(), native.Opened)
    assert isinstance(client.hear(), native.Observed)
    return own


def step(op: int, code: str, acked: int = 1, session: int = 1) -> native.Step:
    return native.Step(session, op, acked, packed(code=code))


def large(op: int, size: int = 4 * MB) -> native.Step:
    return step(op, f"result = {{'x': 'x' * {size}}}")


def memory(url: str) -> int:
    with urlopen(f"{url}/metrics") as page:
        found = re.search(r"^process_resident_memory_bytes (\d+)", page.read().decode(), re.M)
    assert found is not None
    return int(found[1])


def until_nothing_happens(url: str) -> None:
    """Wait until the server's only session does nothing any more, look after look."""
    seen: list[object] = []
    while len(seen) < 30 or len(set(seen[-30:])) > 1:
        with urlopen(f"{url}/v1/sessions") as page:
            [told] = msgspec.json.decode(page.read())["sessions"]
        seen.append((told["state"], told["steps"], told["received_bytes"]))
        time.sleep(0.01)


@pytest.fixture
def probing() -> object:
    with serving(*PROBE) as url:
        yield url


def test_a_reply_that_is_asked_for_a_hundred_times_is_not_held_as_often(probing: str) -> None:
    with Raw(probing, unread=1) as client:
        opened(client)
        client.say(large(2))
        first, before = client.hear(), memory(probing)
        client.say(*[large(2)] * 100)
        most = 0
        for _ in range(100):
            assert client.hear() == first
            most = max(most, memory(probing))

        assert most - before < 200 * MB


def test_replies_of_a_group_do_not_wait_for_others_beyond_all_bounds(probing: str) -> None:
    with Raw(probing) as client:
        opened(client)
        client.say(large(2))
        first = client.hear()
        hangs = step(3, "import time; time.sleep(50)")
        client.say(hangs, *[large(2)] * 20, group=1, first=native.MAX_REQUESTS)
        again = client.hear()
        client.say(native.Cancel(1, 3))
        others = [client.hear() for _ in range(20)]

        assert again == first
        assert [reply.op for reply in others] == [2] * 19 + [3]


async def test_a_call_that_is_cancelled_while_nobody_reads_holds_up_no_other() -> None:
    async with envhub.Hub([Path("tests/hub/envs")]) as hub:
        out, line = outlet()
        lane = Lane("probe", 60.0, lambda: hub.open("probe"), lambda: None, lambda: None)
        lane.attach(out, 1)
        assert b"opened" in await line.read()
        line.is_full = True
        out.send(b"x" * (MAX_UNSENT_BYTES + 1))
        lane.call(native.State(1, 1, 0), out)
        await asyncio.sleep(0)  # it waits until somebody reads
        lane.cancel(1)
        line.is_full = False
        out.go_on()
        assert b"xxx" in await line.read()
        await asyncio.sleep(0.01)  # there is room, and nothing to be done
        lane.call(native.State(1, 2, 1), out)
        said = b""
        while b"read" not in said:
            said += await line.read()
        await asyncio.wait_for(lane.aclose(), 10)

        assert b"cancelled" in said


def test_who_takes_a_session_over_does_not_wait_for_one_who_does_not_read(
    probing: str,
) -> None:
    with Raw(probing, unread=1) as first, Raw(probing) as second:
        own = opened(first)
        ops = range(2, 2 + native.WINDOW - 1)
        first.say(*(large(op, 8 * MB) for op in ops))
        until_nothing_happens(probing)
        last = step(16, "result = {'x': 'x' * 8000000}")
        second.say(native.Resume(1, own), last)

        assert isinstance(second.hear(), native.Opened)
        assert second.hear().op == 16
        first.cut()


def test_a_session_whose_opening_failed_is_forgotten(url: str) -> None:
    with Raw(url) as client:
        codes: set[str] = set()
        for first in range(0, 20_000, 4000):
            numbers = range(first, first + 4000)
            client.say(*(native.Open(number, key(), "nobody") for number in numbers))
            codes |= {client.hear().code for _ in numbers}

        assert codes == {"unknown_environment"}


def test_a_key_is_free_as_soon_as_its_session_is_to_be_closed(probing: str) -> None:
    with Raw(probing) as client:
        own = opened(client)
        client.say(native.Close(1), native.Open(2, own, "probe"), native.Reset(2, 1, 0, b""))
        replies = [client.hear() for _ in range(3)]

        assert {type(reply) for reply in replies if reply.session == 1} == {native.Closed}
        assert sum(isinstance(reply, native.Observed) for reply in replies) == 1


def test_a_session_that_still_closes_counts_to_its_holder(tmp_path: Path) -> None:
    with (
        serving(*LINGERS, "--token-file", tokens(tmp_path, "sessions=1")) as url,
        Raw(url, BEARER) as client,
    ):
        opened(client, 1, "lingers")
        client.say(native.Close(1), native.Open(2, key(), "lingers"))

        assert [client.hear(), type(client.hear())] == [native.Closed(1), native.Opened]


def test_a_call_that_its_rate_delays_can_be_cancelled_and_closed(tmp_path: Path) -> None:
    with (
        serving(*PROBE, "--token-file", tokens(tmp_path, "rate=0.04")) as url,
        Raw(url, BEARER) as client,
    ):
        opened(client)  # that was the one call in 25 s
        client.say(step(2, ""), native.Bill(1))
        client.hear()
        client.say(native.Cancel(1, 2))
        stopped = client.hear()
        client.say(step(3, "", 2), step(4, "", 2), native.Close(1))
        replies = [client.hear() for _ in range(3)]

        assert (stopped.op, stopped.code, stopped.details) == (2, "cancelled", {})
        assert [getattr(reply, "code", "") for reply in replies] == ["session_closed"] * 2 + [
            ""
        ]


def test_a_server_that_ends_closes_its_sessions_beside_each_other() -> None:
    with serving(*LINGERS) as url, Raw(url) as client:  # and would be killed after 30 s
        for session in range(1, 21):
            opened(client, session, "lingers")


def tokens(folder: Path, quota: str) -> str:
    file = folder / "tokens"
    file.touch(0o600)
    file.write_text(f"{TOKEN} name=a {quota}\n")
    return str(file)


def test_who_asks_for_what_cannot_be_opened_fills_no_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        serving(*LINGERS[:2], "--envs", "tests/hub/envs", "--default", "chain", log=log) as url,
        Raw(url) as client,
    ):
        client.say(*(native.Open(number, key(), "broken") for number in range(300)))
        codes = {client.hear().code for _ in range(300)}

    assert codes == {"worker_start_failed"}
    assert 0 < log.read_text().count("session not opened") < 30
