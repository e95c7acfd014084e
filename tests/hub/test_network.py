"""The host's network, for an environment that asks for it and whose operator agrees."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import envhub
from envhub import Grant, Hub
from envhub.errors import UnknownEnvironment
from envhub_sandbox import SandboxError

ENVIRONMENT = """
import socket
from envhub import Action, Environment, Observation, State

class Deed(Action):
    do: str
    to: str = ""

class Seen(Observation):
    seen: str = ""

def connect(to):
    host, _, port = to.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as server:
        return server.recv(100).decode()

def listen(_):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
    return "listens"

def listen_unbound(_):
    with socket.socket() as server:
        server.listen()
    return "listens"

def listen_by_another_protocol(_):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as server:  # MPTCP
        server.bind(("127.0.0.1", 0))
        server.listen()
    return "listens"

def wait_for_datagrams(_):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
    return "listens"

def datagram(to):
    host, _, port = to.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", (host, int(port)))
    return "sent"

def raw(_):
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "raw"

def family(number):
    socket.socket(int(number), socket.SOCK_STREAM).close()
    return "made"

def abstract(name):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\\0" + name)
    return "connected"

def files(_):
    return open("/etc/resolv.conf").read() and open("/etc/hosts").read()

class Networked(Environment[Deed, Seen, State]):
    def reset(self, seed=None, episode_id=None) -> Seen:
        return Seen()

    def step(self, action: Deed) -> Seen:
        try:
            return Seen(seen=globals()[action.do](action.to))
        except OSError as error:
            return Seen(seen=type(error).__name__)

    @property
    def state(self) -> State:
        return State()
"""
_NO_LISTENING = ("PermissionError", "OSError")  # the latter where a kernel has no MPTCP
AGREED = {"networked": Grant(network=True)}
TIERS = ["strict", "standard", "landlock", *(["uid"] if os.geteuid() == 0 else [])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "networked"
    folder.mkdir()
    (folder / "env.toml").write_text(
        'name = "networked"\nentry = "env:Networked"\nnetwork = "public"\n'
    )
    (folder / "env.py").write_text(ENVIRONMENT)
    return folder


@pytest.fixture
def server() -> Iterator[str]:
    """Hold a server of the host's that greets one client."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        pid = os.fork()
        if not pid:
            connection, _ = listening.accept()
            connection.sendall(b"hello")
            os._exit(0)
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        os.kill(pid, 9)
        os.waitpid(pid, 0)


async def seen(hub: Hub, do: str, to: str = "") -> str:
    async with hub.session("networked") as session:
        await session.reset()
        observation = (await session.step({"do": do, "to": to})).observation
        return str(observation["seen"])


@pytest.mark.parametrize("tier", TIERS)
async def test_who_has_the_operator_s_word_reaches_the_network_and_no_more(
    folder: Path, server: str, tier: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0envhub-test-{os.getpid()}")
        listening.listen()
        try:
            async with Hub(folder, isolation=tier, exactly=True, grants=AGREED) as hub:
                assert await seen(hub, "connect", server) == "hello"
                assert await seen(hub, "datagram", server) == "sent"
                assert await seen(hub, "listen") == "PermissionError"
                assert await seen(hub, "listen_unbound") == "PermissionError"
                assert await seen(hub, "listen_by_another_protocol") in _NO_LISTENING
                assert await seen(hub, "wait_for_datagrams") == "PermissionError"
                assert await seen(hub, "raw") == "PermissionError"
                assert await seen(hub, "family", str(socket.AF_NETLINK)) == "OSError"
                name = f"envhub-test-{os.getpid()}"
                assert await seen(hub, "abstract", name) == "OSError"
                assert "localhost" in await seen(hub, "files")
                async with hub.session("networked") as session:
                    receipt = session.receipt
        except SandboxError as error:
            pytest.skip(f"this machine has no {tier}: {error}")

    assert receipt.tier == ("standard" if tier == "strict" else tier)
    assert "any wall to the network" in receipt.missing


@pytest.mark.parametrize("tier", TIERS)
async def test_who_only_asks_has_none(folder: Path, server: str, tier: str) -> None:
    try:
        async with Hub(folder, isolation=tier, exactly=True) as hub:
            assert await seen(hub, "connect", server) == "OSError"
            assert await seen(hub, "datagram", server) == "OSError"
            assert hub.terms.networks_not_allowed() == ["networked"]
            async with hub.session("networked") as session:
                assert "any wall to the network" not in session.receipt.missing
    except SandboxError as error:
        pytest.skip(f"this machine has no {tier}: {error}")


async def test_one_s_word_is_no_other_s(folder: Path, server: str) -> None:
    """An environment that does not ask has none, whatever the operator says."""
    (folder / "env.toml").write_text('name = "networked"\nentry = "env:Networked"\n')
    async with Hub(folder, grants=AGREED) as hub:
        assert await seen(hub, "connect", server) == "OSError"
        async with hub.session("networked") as session:
            assert session.receipt.tier == "strict"


def test_a_name_that_nobody_has_is_refused(folder: Path) -> None:
    with pytest.raises(UnknownEnvironment, match="no environment `netwrked`"):
        envhub.Hub(folder, grants={"netwrked": Grant(network=True)})
