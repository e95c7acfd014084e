"""A sweeper: removes the groups of an owner that was killed and could not.

Processes go with their owner, for the kernel sees to that; folders of the cgroup file system do
not. So a shell waits for the end of a pipe that only the owner holds, and then removes what is
empty, until nothing is left. It does nothing else, and is ended by an owner that has removed
its groups itself.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from contextlib import suppress

# it gives up after ten seconds: what is not empty then holds somebody else's processes
_PROGRAM = """
read -r _
left=200
while [ $left -gt 0 ]; do
    found=
    for folder in "$@"; do
        for group in "$folder"-*; do
            [ -d "$group" ] && { found=1; rmdir "$group" 2>/dev/null; }
        done
    done
    [ "$found" ] || exit 0
    left=$((left - 1))
    sleep 0.05
done
"""


class Sweeper:
    """Waits for the end of this process.

    Args:
        prefixes: of the folders that are to be removed then.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, prefixes: Iterable[str]) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _PROGRAM, "sh", *prefixes],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,  # what a terminal kills is not for it
        )

    def close(self) -> None:
        """End it: the groups are gone. Idempotent."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
