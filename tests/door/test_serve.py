"""`envhub.door.serve`: ports, signals, and an end that leaves nothing."""

import re
import signal
import socket
import subprocess
import sys
import textwrap
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import anyio
import pytest
from websockets.sync.client import connect

from envhub.door.serve import serve
from envhub.errors import UsageError

ROOT = Path(__file__).parents[2]
SERVER = """
    import anyio
    from envhub.door.serve import serve
    from envhub.hub.hub import Hub

    async def main():
        async with Hub("envs") as hub:
            await serve(
                hub, host="127.0.0.1", port=0, default="echo",
                on_ready=lambda port: print(f"ready on {port}", flush=True),
            )
            print("door closed", hub.active_sessions, flush=True)
        print("hub closed", flush=True)

    anyio.run(main, backend_options={"use_uvloop": True})
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_door_and_leaves_the_hub_to_its_owner(number: signal.Signals) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stdout is not None
            ready = re.fullmatch(r"ready on (\d+)\n", server.stdout.readline())
            assert ready is not None
            with connect(f"ws://127.0.0.1:{ready[1]}/ws", proxy=None) as websocket:
                websocket.send('{"type":"reset"}')
                websocket.recv(timeout=30)
                server.send_signal(number)
                said, _ = server.communicate(timeout=30)
        finally:
            server.kill()

    assert said == "door closed 0\nhub closed\n"
    assert server.returncode == 0


async def test_a_taken_port_is_an_os_error(scripted: Any) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        return b"{}"

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await serve(
                scripted(play), host="127.0.0.1", port=port, default=None, on_ready=print
            )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_an_address_off_loopback_is_refused(scripted: Any, host: str) -> None:
    with pytest.raises(UsageError, match="expected a loopback address"):
        await serve(scripted(None), host=host, port=0, default=None, on_ready=print)


async def test_a_cancelled_door_frees_its_port(scripted: Any, served: Any) -> None:
    async def play(verb: str, data: bytes) -> bytes:
        return b"{}"

    async with served(scripted(play)) as address:
        host, _, port = address.rpartition(":")

        def health() -> int:
            connection = HTTPConnection(host, int(port), timeout=10)
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status
            finally:
                connection.close()

        status = await anyio.to_thread.run_sync(health)
    with socket.create_server((host, int(port))) as again:
        assert again.getsockname()[1] == int(port)

    assert status == 200


async def test_nothing_is_compressed(scripted: Any, served: Any) -> None:
    """Loopback is faster than zlib, and an attacker's text beside a secret stays unrelated."""

    async def play(verb: str, data: bytes) -> bytes:
        return b"{}"

    async with served(scripted(play)) as address:

        def handshake() -> Any:
            with connect(f"ws://{address}/ws", proxy=None, compression="deflate") as websocket:
                assert websocket.response is not None
                return websocket.response.headers.get("Sec-WebSocket-Extensions")

        extensions = await anyio.to_thread.run_sync(handshake)

    assert extensions is None
