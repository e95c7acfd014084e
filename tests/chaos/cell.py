"""Namespaces of our own, so that no kill, no mount and no port here is anybody else's."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "ENVHUB_CHAOS_INSIDE"
_SIOCSIFFLAGS, _UP = 0x8914, 0x1 | 0x8 | 0x40  # up, loopback, running
_UNSHARE = ("unshare", "--pid", "--mount", "--net", "--fork", "--mount-proc", "--kill-child")
# pid 1 reaps whoever loses its parent, as an init does; Python would not
_INIT = ("bash", "-c", '"$@"; r=$?; exit $r', "init")


def is_inside() -> bool:
    """Whether this process runs in the cell."""
    return os.environ.get(_INSIDE) == "1"


def missing() -> str:
    """Return why there can be no cell here, or ""."""
    if os.geteuid():
        return "root is needed for a pid, a mount and a network namespace around the run"
    probe = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True)
    return probe.stderr.strip() if probe.returncode else ""


def run_inside(command: Sequence[str]) -> int:
    """Run a command in a cell; return its exit code."""
    words = [*_UNSHARE, *_INIT, *command]
    return subprocess.run(words, env={**os.environ, _INSIDE: "1"}).returncode


def furnish(disk: Path, disk_bytes: int) -> None:
    """Bring the network's loopback up, and mount a small disk. Inside only."""
    assert is_inside()
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))
    options = ["-t", "tmpfs", "-o", f"size={disk_bytes},mode=755", "chaos", str(disk)]
    subprocess.run(["mount", *options], check=True)


def clear(disk: Path) -> None:
    """Unmount the small disk, and remove the folder that it was in. Inside only."""
    assert is_inside()
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
    shutil.rmtree(disk.parent)
