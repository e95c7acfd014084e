"""What there is to reach on the host, and attacks run where nothing stops them."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import envhub_sandbox
from tests.sandbox.alone import DEADLINE_S
from tests.sandbox.attack import PRELUDE

_PACKAGE = str(Path(envhub_sandbox.__path__[0]).parent)
_GIVEN = "import json, sys\ngiven = json.loads(sys.argv[1])\n"
# its own namespaces, root in them, a fresh /proc, and a read-only mount of its own making
OWNER = f"""
import os, sys
sys.path.insert(0, {_PACKAGE!r})
from envhub_sandbox import isolate, syscalls
uid, gid = os.getuid(), os.getgid()
syscalls.unshare(isolate.NAMESPACES)
isolate.map_user(0, uid, gid)
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)
syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
syscalls.mount("proc", "/proc", "proc")
syscalls.mount("tmpfs", given["shown"], "tmpfs")
syscalls.mount(None, given["shown"], None, 0x1020 | syscalls.MS_RDONLY)
"""


@contextmanager
def targets(folder: Path) -> Iterator[dict[str, Any]]:
    """Hold everything that the table's attacks are after, and yield how to find it."""
    folder.chmod(0o755)
    shown = folder / "shown"
    shown.mkdir()
    shown.chmod(0o777)
    secret = folder / "secret"
    secret.write_text("secret")
    with ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        tcp6 = None
        if socket.has_ipv6:
            try:
                server = socket.create_server(("::1", 0), family=socket.AF_INET6)
                tcp6 = stack.enter_context(server).getsockname()[1]
            except OSError:
                pass  # it is off on this machine, and the row about it is optional
        path = folder / "socket"
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(path))
        unix.listen()
        abstract = f"envhub-attack-{secrets.token_hex(8)}"
        named = stack.enter_context(socket.socket(socket.AF_UNIX))
        named.bind(f"\0{abstract}")
        named.listen()
        yield {
            "secret": str(secret),
            "token": secrets.token_hex(16),
            "shown": str(shown),
            "host": os.uname().nodename,
            "tcp": tcp.getsockname()[1],
            "tcp6": tcp6,
            "unix": str(path),
            "abstract": abstract,
        }


@contextmanager
def victim(token: str) -> Iterator[int]:
    """Hold a process of ours with a secret in its environment; yield its number."""
    process = subprocess.Popen(["sleep", "600"], env={"TOKEN": token, "PATH": "/usr/bin:/bin"})
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def freely(
    code: str, given: dict[str, Any], *, owner: bool
) -> subprocess.CompletedProcess[str]:
    """Run an attack in an ordinary process; `owner`: as root of its own namespaces."""
    text = _GIVEN + (OWNER if owner else "") + PRELUDE + code
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", text, json.dumps(given)],
        cwd=given["scratch"],
        env={**os.environ, "TOKEN": given["token"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
