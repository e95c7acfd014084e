"""What can go wrong while walls are built. Every one of these is a refusal to run."""

from __future__ import annotations

import errno


class SandboxError(Exception):
    """Base of every error of this package.

    Args:
        message: what was expected and what came.
        hint: what to do about it, or "".
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LayerFailed(SandboxError):
    """One layer of isolation could not be built; the process that needed it was killed.

    Args:
        layer: which one, such as "user namespace" or "seccomp".
        what: the step that failed.
        number: its errno, 0 when there is none.
    """

    def __init__(self, layer: str, what: str, number: int = 0, *, hint: str = "") -> None:
        name = f" ({errno.errorcode.get(number, number)})" if number else ""
        super().__init__(f"isolation layer `{layer}` failed: {what}{name}", hint=hint)
        self.layer = layer
        self.what = what
        self.number = number


class LaunchFailed(SandboxError):
    """The sandboxed program ended, or said nothing, before it was ready.

    Args:
        message: what was expected and what came.
        stderr: what it had printed, the last part of it.
    """

    def __init__(self, message: str, *, stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr
