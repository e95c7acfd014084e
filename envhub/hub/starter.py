"""Starts workers at the tier that was asked for, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import envhub_sandbox
from envhub.errors import UsageError
from envhub.hub.views import ENVIRONMENT
from envhub.hub.worker import Worker
from envhub_sandbox import Launcher, LaunchFailed, LayerFailed, View

Isolation = Literal["strict", "none"]
LauncherChoice = Literal["auto", "bubblewrap", "built-in"]


class Starter:
    """Knows the tier, and which launcher works on this machine once one has.

    Args:
        isolation: "strict", or "none" in so many words.
        launcher: "auto" takes bubblewrap where it is installed and its children can build
            namespaces, which is found by doing it, and envhub's own otherwise.

    Raises:
        UsageError: there is no such tier or launcher.
    """

    def __init__(self, isolation: str = "strict", launcher: str = "auto") -> None:
        if isolation not in ("strict", "none"):
            raise UsageError(f"no isolation `{isolation}`", hint="there is `strict` and `none`")
        if launcher not in ("auto", "bubblewrap", "built-in"):
            raise UsageError(
                f"no launcher `{launcher}`", hint="there is `auto`, `bubblewrap`, `built-in`"
            )
        self.isolation = isolation
        self._choices = _choices(launcher)
        self.passed_over: list[str] = []

    @property
    def strict(self) -> bool:
        """Whether workers are sandboxed."""
        return self.isolation == "strict"

    async def start(
        self,
        name: str,
        view: View,
        command: list[str],
        *,
        deadline_s: float,
        cpu_limit_s: int,
        on_end: Callable[[], None],
    ) -> Worker:
        """Return a worker that is ready to fork.

        Raises:
            SandboxError: a layer is missing; its hint says what to do.
            WorkerStartFailed: the environment cannot be imported, or not in time.
        """
        if not self.strict:
            launched = envhub_sandbox.launch_bare(command, dict(ENVIRONMENT))
            worker = Worker(launched, name, cpu_limit_s=cpu_limit_s, on_end=on_end)
            await worker.wait_ready(deadline_s)
            return worker
        while True:
            choice = self._choices[0]
            launched = envhub_sandbox.launch(view, command, choice)
            worker = Worker(launched, name, cpu_limit_s=cpu_limit_s, on_end=on_end)
            try:
                await worker.wait_ready(deadline_s)
            except (LaunchFailed, LayerFailed) as error:
                if len(self._choices) == 1:
                    raise
                # bubblewrap is there and its children cannot nest: Ubuntu's profile for it
                self.passed_over.append(f"{choice}: {error}")
                del self._choices[0]
            else:
                del self._choices[1:]
                return worker


def _choices(launcher: str) -> list[Launcher]:
    if launcher == "bubblewrap":
        return ["bubblewrap"]
    if launcher == "auto" and envhub_sandbox.bubblewrap() is not None:
        return ["bubblewrap", "built-in"]
    return ["built-in"]
