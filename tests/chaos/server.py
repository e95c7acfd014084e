"""The server under test: `envhub serve`, with little disk and few descriptors."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.chaos import processes
from tests.serving import ROOT

ENVIRONMENTS = ("chain", "coding", "probe")
FOLDERS = ("tests/protocol/envs", "tests/hub/envs", "envs")
GRACE_S = 6.0
_UP_S, _DOWN_S = 90.0, 60.0
_LOOK_S = 0.05
# a session that eats is stopped at 96 MiB, and one that fills its disk at 8
_CAPS = ("session_memory_bytes=96M", "disk_bytes=8M", "step_s=12", "close_s=2", "start_s=30")


@dataclass(frozen=True, slots=True)
class Held:
    """What a server holds at one moment.

    Attributes:
        sessions: as the hub itself says; -1 if it does not say.
    """

    sessions: int
    launchers: int
    zygotes: int
    session_processes: int
    runners: int
    agent_processes: int
    other_processes: int
    descriptors: int
    threads: int
    mounts: int
    zombies: int
    control_groups: int
    files: int
    rss_kib: int
    pss_kib: int

    def beyond(self, before: Held, allowed: dict[str, int]) -> dict[str, tuple[int, int]]:
        """Return by name what is more than before by more than is allowed: before, now."""
        then, now = asdict(before), asdict(self)
        return {
            name: (then[name], now[name])
            for name in then
            if name in allowed and now[name] > then[name] + allowed[name]
        }


class Server:
    """`envhub serve` as a subprocess, which can be killed and started again.

    Args:
        disk: where its home and its temporary files are, and the log of its first start.
        shelf: for the logs of later starts, which a full disk must not cut short.
        port: it listens on.
        places: for sessions.
        descriptors: that it may have open.
    """

    def __init__(
        self, disk: Path, shelf: Path, port: int, places: int, descriptors: int
    ) -> None:
        self.disk = disk
        self.shelf = shelf
        self.url = f"http://127.0.0.1:{port}"
        self.places = places
        self.most_descriptors = descriptors
        self._port = port
        self._server: subprocess.Popen[str] | None = None
        self._logs: list[Path] = []
        for name in ("home", "tmp"):
            (disk / name).mkdir()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._server is not None
        return self._server.pid

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._server is not None and self._server.poll() is None

    def start(self, *more: str) -> None:
        """Start it with more options, and wait until it listens."""
        folders = [word for folder in FOLDERS for word in ("--envs", folder)]
        only = [word for name in ENVIRONMENTS for word in ("--env", name)]
        caps = [word for cap in _CAPS for word in ("--cap", cap)]
        words = [
            sys.executable, "-m", "envhub", "serve", "--port", str(self._port),
            "--max-sessions", str(self.places), "--grace-s", str(GRACE_S),
            "--queue-s", "10", *self._connections(), *more, *folders, *only, *caps,
        ]  # fmt: skip
        where = self.shelf if self._logs else self.disk
        self._logs.append(where / f"log-{len(self._logs)}")
        most = self.most_descriptors
        with self._logs[-1].open("w") as log:
            self._server = subprocess.Popen(
                words,
                cwd=ROOT,
                text=True,
                stdout=subprocess.PIPE,
                stderr=log,
                env={
                    **os.environ,
                    "HOME": str(self.disk / "home"),
                    "TMPDIR": str(self.disk / "tmp"),
                    "PYTHONUNBUFFERED": "1",
                },
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
            )
        assert self._server.stdout is not None
        said, until = "", time.monotonic() + _UP_S
        while not re.search(r"listening on", said):
            line = self._server.stdout.readline()
            assert line, f"the server ended: {said}\n{self._logs[-1].read_text()}"
            assert time.monotonic() < until, "the server is not up in time"
            said += line

    def kill(self) -> list[str]:
        """Kill it as a machine's lack of memory would; return what outlived it."""
        assert self._server is not None
        level = [p for level in processes.below(self.pid).values() for p in level]
        self._server.send_signal(signal.SIGKILL)
        self._server.wait()
        return self._gone(level)

    def stop(self) -> list[str]:
        """Tell it to end; return what went wrong."""
        assert self._server is not None
        level = [p for level in processes.below(self.pid).values() for p in level]
        self._server.send_signal(signal.SIGTERM)
        try:
            code = self._server.wait(_DOWN_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
            return ["the server did not end at SIGTERM"]
        found = self._gone(level)
        return [*found, f"the server ended with {code}"] if code else found

    def held(self) -> Held:
        """Return what it holds now."""
        kinds = processes.by_kind(self.pid)
        size = processes.memory(self.pid)
        return Held(
            sessions=self.sessions(),
            launchers=len(kinds["launcher"]),
            zygotes=len(kinds["zygote"]),
            session_processes=len(kinds["session"]),
            runners=len(kinds["runner"]),
            agent_processes=len(kinds["keeper"]) + len(kinds["interpreter"]),
            other_processes=len(kinds["other"]),
            descriptors=processes.descriptors(self.pid),
            threads=processes.threads(self.pid),
            mounts=processes.mounts(self.pid) + processes.mounts(os.getpid()),
            zombies=len(processes.zombies()),
            control_groups=processes.groups(),
            files=sum(len(names) + len(folders) for _, folders, names in os.walk(self.disk))
            - 1,  # the log
            rss_kib=size["rss"],
            pss_kib=size["pss"],
        )

    def sessions(self) -> int:
        """Return how many places are taken, as the hub says; -1 if it does not say."""
        try:
            with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:
                text = answer.read().decode()
        except OSError:
            return -1
        found = re.search(r"^envhub_places_taken (\S+)$", text, re.MULTILINE)
        return int(float(found[1])) if found else -1

    def complaints(self) -> list[str]:
        """Return the lines of its logs that nothing of this may cause."""
        found = []
        for log in self._logs:
            lines = log.read_text(errors="replace").splitlines()
            for at, line in enumerate(lines):
                if any(word in line for word in ("Traceback", "a bug in envhub", "was never")):
                    found.append("\n".join(lines[max(0, at - 2) : at + 40]))
        return found[:5]

    def _connections(self) -> list[str]:
        """Return the option that has a second start accept more than its descriptors bear."""
        return ["--max-connections", "100000"] if self._logs else []

    def _gone(self, were: list[processes.Process]) -> list[str]:
        """Wait until they are gone; return those that stay."""
        until = time.monotonic() + _DOWN_S / 4
        while True:
            now = processes.all_processes()
            left = [p for p in were if p.pid in now and now[p.pid].words == p.words]
            if not left or time.monotonic() > until:
                break
            time.sleep(_LOOK_S)
        for process in left:
            with suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        return [f"outlived the hub: {process}" for process in left]
