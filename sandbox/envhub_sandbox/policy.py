"""What a sandbox shows and what a process in it may use, as plain data.

A `View` is what the outer sandbox shows to a zygote and everything forked from it; `Limits`
are what one session process gets. What is not listed is denied.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 1024 * 1024
WORKSPACE = "/workspace"
# of the host, which every sandbox has
DEVICES = ("null", "zero", "full", "urandom", "random")
SHARED_FILES_BYTES = 16 * MIB  # of /dev/shm, at most


@dataclass(frozen=True, slots=True)
class Bind:
    """One path of the host, shown read-only.

    Args:
        source: absolute path on the host, a file or a folder.
        target: absolute path inside; the same as `source` when "".
    """

    source: str
    target: str = ""

    @property
    def inside(self) -> str:
        """Where it is seen inside."""
        return self.target or self.source


@dataclass(frozen=True, slots=True)
class View:
    """The file tree and the environment variables that a zygote sees.

    Args:
        binds: what is shown. Everything else of the host is absent.
        links: (target, path) of symbolic links to make.
        masks: folders inside a bind that look empty.
        environment: the only environment variables.
    """

    binds: tuple[Bind, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    masks: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()

    def ordered(self) -> tuple[Bind, ...]:
        """Return the binds, outer folders first, without those that another shows already.

        Of two with the same target the later one is seen.
        """
        kept: list[Bind] = []
        last = {bind.inside: bind for bind in self.binds}
        for _, bind in sorted(last.items(), key=lambda item: (item[0].count("/"), item[0])):
            covering = [b for b in kept if Path(bind.inside).is_relative_to(b.inside)]
            if not covering or not _shows(covering[-1], bind):
                kept.append(bind)
        return tuple(kept)


def joined(*views: View) -> View:
    """Return a view that shows what each of these does; later environment variables win."""
    return View(
        tuple(bind for view in views for bind in view.binds),
        tuple(dict.fromkeys(link for view in views for link in view.links)),
        tuple(dict.fromkeys(mask for view in views for mask in view.masks)),
        tuple(dict(pair for view in views for pair in view.environment).items()),
    )


def _shows(outer: Bind, bind: Bind) -> bool:
    below = Path(bind.inside).relative_to(outer.inside)
    return Path(outer.source) / below == Path(bind.source)


# limits whose 0 means none; a 0 of the others would let nothing run
OPTIONAL_LIMITS = ("session_memory_bytes", "address_bytes", "cpu_s")
SESSION_MEMORY_FACTOR = 4  # of one process: honest environments have few that are large


@dataclass(frozen=True, slots=True)
class Limits:
    """What one session process and its children may use.

    The kernel holds most of these by itself. `session_memory_bytes`, `output_bytes` and
    `frame_bytes` are held by the owner, which ends the session.

    Args:
        memory_bytes: private memory of each process (RLIMIT_DATA). Past it, allocation fails.
        session_memory_bytes: memory of all of them together, shared memory and the files in
            /workspace, /tmp and /dev/shm included; 0 for no limit, -1 for four times
            `memory_bytes`. Past it, the session is killed.
        address_bytes: address space of each process (RLIMIT_AS), shared mappings included;
            0 for no limit, which node, Java and Go need. Past it, allocation fails.
        cpu_s: CPU seconds of each process (RLIMIT_CPU); 0 for no limit. Past it, SIGXCPU,
            and two seconds later SIGKILL.
        processes: processes and threads of the session (RLIMIT_NPROC). Past it, EAGAIN.
        open_files: descriptors of each process (RLIMIT_NOFILE). Past it, EMFILE.
        file_bytes: longest file (RLIMIT_FSIZE). Past it, EFBIG.
        disk_bytes: size of /workspace, and again of /tmp; both are memory. Past it, ENOSPC.
        disk_files: files in each of them. Past it, ENOSPC.
        output_bytes: what may be printed during one call. Past it, the session is killed.
        frame_bytes: longest message from the session, and to it. Past it, the session is
            killed, or the caller is told.
        niceness: added to the nice value, 0 to 19.
    """

    memory_bytes: int = 1024 * MIB
    session_memory_bytes: int = -1
    address_bytes: int = 0
    cpu_s: int = 0
    processes: int = 64
    open_files: int = 256
    file_bytes: int = 256 * MIB
    disk_bytes: int = 64 * MIB
    disk_files: int = 8192
    output_bytes: int = 16 * MIB
    frame_bytes: int = 64 * MIB  # one 4K RGB observation is 24 MiB
    niceness: int = 0

    def __post_init__(self) -> None:
        if self.session_memory_bytes < 0:
            derived = SESSION_MEMORY_FACTOR * self.memory_bytes
            object.__setattr__(self, "session_memory_bytes", derived)

    @property
    def file_memory_bytes(self) -> int:
        """What the files of a session can hold at most, and they are memory."""
        return 2 * self.disk_bytes + min(self.disk_bytes, SHARED_FILES_BYTES)

    def as_dict(self) -> dict[str, int]:
        """Return the limits as JSON can carry them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Limits:
        """Return the limits that `as_dict` gave."""
        return cls(**data)
