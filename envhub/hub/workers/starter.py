"""Starts workers at the tier that was asked for or a better one, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import envhub_sandbox
from envhub.errors import UsageError
from envhub.hub.accounts.counters import Counters
from envhub.hub.workers.pulse import PATIENCE_S
from envhub.hub.workers.worker import Worker
from envhub_sandbox import (
    TIERS,
    Grade,
    Launcher,
    LaunchFailed,
    LayerFailed,
    SandboxError,
    View,
    machine,
)
from envhub_sandbox.tiers import VARIANTS

Isolation = Literal["strict", "standard", "uid", "landlock", "none", "best"]
ISOLATIONS: tuple[Isolation, ...] = ("best", *TIERS)
LAUNCHERS = ("auto", "bubblewrap", "built-in")
Command = Callable[[bool], list[str]]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to start a worker.

    Args:
        grade: how its sessions are isolated.
        launcher: who builds the sandbox; None where there is none.
    """

    grade: Grade
    launcher: Launcher | None

    def __str__(self) -> str:
        built = f", by {self.launcher}" if self.launcher else ""
        without = " and ".join(self.grade.missing)
        return f"{self.grade.tier}{built}" + (f", without {without}" if without else "")


class Starter:
    """Knows which way works on this machine, once one has: it is found by doing it.

    Args:
        isolation: the lowest tier that will do, and the highest that works is taken; "best"
            is the same as "landlock". "none" is no minimum: it takes exactly that.
        launcher: "auto" takes bubblewrap where it is installed and its children can build
            namespaces, and envhub's own otherwise.
        exactly: take the tier that was named, and no higher one.
        counters: of the hub, for workers that start and end.

    Attributes:
        passed_over: ways that were tried and did not work, each with its reason.

    Raises:
        UsageError: there is no such tier or launcher.
    """

    def __init__(
        self,
        isolation: str = "strict",
        launcher: str = "auto",
        *,
        exactly: bool = False,
        counters: Counters | None = None,
    ) -> None:
        if isolation not in ISOLATIONS:
            raise UsageError(
                f"no isolation `{isolation}`", hint=f"one of {_listed(ISOLATIONS)}"
            )
        if launcher not in LAUNCHERS:
            raise UsageError(f"no launcher `{launcher}`", hint=f"one of {_listed(LAUNCHERS)}")
        if exactly and isolation == "best":
            raise UsageError("`best` is no tier", hint="name the one that is meant")
        self.isolation = isolation
        self._ways = _ways(isolation, launcher, exactly=exactly)
        self.passed_over: list[str] = []
        self.counters = counters or Counters()

    @property
    def grade(self) -> Grade:
        """How workers are isolated: as the last one was, or as the next one will be at best."""
        return self._ways[0].grade

    async def start(
        self,
        name: str,
        view: View,
        command: Command,
        *,
        deadline_s: float,
        cpu_limit_s: int,
        open_network: bool = False,
        on_end: Callable[[], None],
        heartbeat_s: float = PATIENCE_S,
    ) -> Worker:
        """Return a worker that is ready to fork.

        Args:
            name: of the environment, for messages.
            view: what it is shown.
            command: called with whether it will be isolated; returns what to run.
            deadline_s: for the start.
            cpu_limit_s: RLIMIT_CPU of its session processes.
            open_network: it may use the host's network.
            on_end: called once when the worker has ended by itself.
            heartbeat_s: within which its zygote must answer.

        Raises:
            SandboxError: a layer is missing; its hint says what to do.
            WorkerStartFailed: the environment cannot be imported, or not in time.
        """
        refused: list[SandboxError] = []
        has_started = False

        def ended() -> None:
            if has_started:
                self.counters.worker_died(name)
            on_end()

        while True:
            way = self._ways[0]
            grade = way.grade.opened() if open_network else way.grade
            try:
                if way.launcher is None:
                    launched = envhub_sandbox.launch_bare(
                        command(False), dict(view.environment)
                    )
                else:
                    launched = envhub_sandbox.launch(view, command(True), way.launcher, grade)
                worker = Worker(
                    launched,
                    name,
                    cpu_limit_s=cpu_limit_s,
                    on_end=ended,
                    heartbeat_s=heartbeat_s,
                )
                await worker.wait_ready(deadline_s)
            except (LaunchFailed, LayerFailed) as error:
                refused.append(error)
                if len(self._ways) == 1:
                    raise self._told(refused) from None
                if self._ways[0] is way:  # another start may have passed it over meanwhile
                    self.passed_over.append(f"{way}: {error}")
                    del self._ways[0]
            else:
                self._ways = [way]
                has_started = True
                self.counters.worker_started(name)
                return worker

    def _told(self, refused: list[SandboxError]) -> SandboxError:
        """Return the error that helps most: of the strongest tier, as our own launcher saw it.

        bubblewrap says only that it failed; our launcher says at which layer.
        """
        layers = [error for error in refused if isinstance(error, LayerFailed)]
        told = (layers or refused)[0]
        if isinstance(told, LayerFailed):
            told.hint = told.hint or machine.fix_for(told.layer)
        if not told.hint:
            told.hint = "`envhub doctor` says what this machine can isolate, and how to fix it"
        return told


def _ways(isolation: str, launcher: str, *, exactly: bool) -> list[Way]:
    if isolation == "none":
        return [Way(Grade("none"), None)]
    names = [str(tier) for tier in TIERS]
    lowest = names.index("landlock" if isolation == "best" else isolation)
    tiers = TIERS[lowest if exactly else 0 : lowest + 1]
    launchers = _launchers(launcher)
    return [
        Way(grade, by)
        for tier in tiers
        for grade in VARIANTS[tier]
        for by in (launchers if grade.namespaces else launchers[-1:])
    ]


def _launchers(launcher: str) -> list[Launcher]:
    if launcher == "bubblewrap":
        return ["bubblewrap"]
    if launcher == "auto" and envhub_sandbox.bubblewrap() is not None:
        return ["bubblewrap", "built-in"]
    return ["built-in"]


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
