"""The tables once more over TLS, whose records cut frames in ways of their own."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.door.websocket.cases import controls, framing, messages
from tests.door.websocket.cases.case import Case, play
from tests.door.websocket.peer import Talk
from tests.serving import serving

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, for a certificate"
)
TABLES = (framing.LENGTHS, framing.OPCODES, controls.PINGS, controls.CLOSES, messages.FRAGMENTS)
CASES = [
    pytest.param(way, case, id=f"{way}: {case.name}")
    for cases in TABLES
    for case in cases
    for way in case.lanes
]


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[tuple[str, int], ssl.SSLContext]]:
    """A server's address, and what to know it by."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
            "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
    subprocess.run(
        [*make, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    flags = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--drain-s", "0")
    with serving("--env", "echo", *flags) as url:
        parts = urlsplit(url)
        assert parts.scheme == "https"
        assert parts.hostname is not None
        assert parts.port is not None
        yield (parts.hostname, parts.port), ssl.create_default_context(cafile=str(certificate))


@pytest.mark.parametrize(("way", "case"), CASES)
def test_case(secured: tuple[tuple[str, int], ssl.SSLContext], way: str, case: Case) -> None:
    address, context = secured
    with Talk(address, way, secure=context) as talk:
        play(case, talk)
