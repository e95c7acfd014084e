"""Who bears no token is served nothing, whatever the route."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from envhub import EnvClient, HTTPEnvClient
from envhub.door import tokens
from envhub.door.serve import serve
from envhub.door.tokens import Tokens
from envhub.errors import UsageError, WorkerLost
from tests.door.asking import ask
from tests.serving import serving

GOOD, OTHER = "a-token-of-this-test-only", "another-token-of-this-test"
ROUTES = [
    ("GET", "/health"), ("GET", "/envs"), ("GET", "/schema"), ("POST", "/reset"),
    ("POST", "/mcp"), ("DELETE", "/mcp"), ("GET", "/envs/echo/state"), ("GET", "/nothing"),
    ("OPTIONS", "/reset"),
]  # fmt: skip
WRONG: list[dict[str, str]] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": f"Bearer {GOOD}x"},
    {"authorization": f"Bearer {GOOD[:-1]}"},
    {"authorization": f"Basic {GOOD}"},
    {"authorization": GOOD},
    {"cookie": f"authorization=Bearer {GOOD}"},
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# of a test\n{GOOD}\n\n{OTHER}\n")
    file.chmod(0o600)
    with serving("--env", "echo", "--token-file", str(file)) as url:
        yield url


@pytest.fixture
def address(url: str) -> str:
    return url.removeprefix("http://")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_no_route_answers_without_one(address: str, method: str, path: str) -> None:
    refused = await ask(address, method, path)
    in_the_url = await ask(address, method, f"{path}?token={GOOD}&access_token={GOOD}")

    assert (refused.status, in_the_url.status) == (401, 401)
    assert refused.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("headers", WRONG)
async def test_what_is_no_token_of_ours_is_none(address: str, headers: dict[str, str]) -> None:
    reply = await ask(address, "GET", "/health", None, headers)
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://{address}/ws", additional_headers=headers)

    assert (reply.status, refused.value.response.status_code) == (401, 401)


@pytest.mark.parametrize("token", [GOOD, OTHER])
async def test_each_token_opens_every_door(url: str, token: str) -> None:
    async with EnvClient(url, token=token) as env:
        await env.reset()
        assert (await env.step({"message": "hello"})).reward == 5.0
    with HTTPEnvClient(url, token=token) as http:
        http.reset()
        assert http.step({"message": "hello"}).reward == 5.0


async def test_any_name_of_the_machine_will_do_and_a_foreign_page_still_not(
    address: str,
) -> None:
    bearing = {"authorization": f"Bearer {GOOD}"}
    named = await ask(address, "GET", "/health", None, {**bearing, "host": "box.example"})
    page = {**bearing, "host": "box.example", "origin": "http://evil.example"}

    assert named.status == 200
    assert (await ask(address, "GET", "/health", None, page)).status == 403


async def test_our_clients_say_that_a_token_is_asked_for(url: str) -> None:
    with pytest.raises(UsageError, match="asks for a token"):
        HTTPEnvClient(url).reset()
    with pytest.raises(WorkerLost, match="401"):
        await EnvClient(url).connect()


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("short", 0o600, "16 or more characters"),
        ("a token with spaces in it", 0o600, "16 or more characters"),
        ("# nothing\n\n", 0o600, "no token is given"),
        (GOOD, 0o640, "can be read by others"),
        ("tökens-are-ascii-letters", 0o600, "cannot be read"),
    ],
)
def test_a_file_that_keeps_no_secret_is_refused(
    tmp_path: Path, text: str, mode: int, words: str
) -> None:
    file = tmp_path / "tokens"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(UsageError, match=words) as refused:
        tokens.given(file)

    assert text not in f"{refused.value}{refused.value.hint}"


def test_the_environment_has_one_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(tokens.VARIABLE, raising=False)
    assert tokens.given(None) is None
    monkeypatch.setenv(tokens.VARIABLE, GOOD)
    known = tokens.given(None)

    assert known is not None
    assert known.find(f"bearer {GOOD}") is not None
    assert known.find(f"bearer {OTHER}") is None


async def test_off_loopback_a_token_is_what_it_takes(scripted: Any) -> None:
    """The address is nobody's: that the kernel refuses it shows that we did not."""
    for allowed in ({"tokens": Tokens([GOOD])}, {"insecure": True}):
        with pytest.raises(OSError, match="assign"):
            await serve(
                scripted(None),
                host="192.0.2.1",
                port=0,
                default=None,
                on_ready=print,
                **allowed,
            )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl, for a certificate")
def test_tls_is_spoken(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(
        [*make, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    with serving("--env", "echo", *flags) as url:
        assert url.startswith("https://")
        with urllib.request.urlopen(f"{url}/health", context=context, timeout=30) as reply:
            assert reply.status == 200


async def test_nothing_behind_the_door_learns_a_token() -> None:
    """An author's whole application is told every header, and could use the other doors."""
    heard = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["headers"])

    door = tokens.Bearer(application, Tokens([GOOD]))
    headers = [(b"authorization", f"Bearer {GOOD}".encode()), (b"x-mine", b"1")]
    await door({"type": "http", "headers": headers}, None, None)  # type: ignore[arg-type]

    assert heard == [[(b"x-mine", b"1")]]
