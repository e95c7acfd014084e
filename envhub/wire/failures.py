"""Errors on the native wire: from an exception to a `failed`, and back to the exception."""

from __future__ import annotations

import inspect
from typing import Any

from envhub import errors
from envhub.errors import EnvhubError
from envhub.wire.messages import MAX_TEXT
from envhub.wire.native import MAX_DETAIL, Failed

SANDBOX = "sandbox"  # the code of what a machine cannot isolate, which is no EnvhubError


def failed(session: int, op: int, error: Exception) -> Failed:
    """Return the message that tells of an error.

    Args:
        session: that it is about.
        op: of the call; 0 for none.
        error: an EnvhubError or a SandboxError; another is a bug, and told as no more.
    """
    hint = str(getattr(error, "hint", ""))[:MAX_TEXT]
    if isinstance(error, EnvhubError):
        code, details = error.code, _details(error)
    elif hasattr(error, "hint"):
        code, details = SANDBOX, {}
    else:
        return Failed(session, op, EnvhubError.code, "a bug in envhub", "", {})
    return Failed(session, op, code, str(error)[:MAX_TEXT], hint, details)


def exception(failed: Failed) -> EnvhubError:
    """Return the error that a message tells of; fields that its class has not are left out.

    What the hub's machine cannot isolate is a WorkerStartFailed on this side.
    """
    kind = _KINDS.get(failed.code, EnvhubError)
    fields: dict[str, Any] = {}
    for name, value in failed.details.items():
        if name in _FIELDS[kind]:
            is_bytes = isinstance(_FIELDS[kind][name].default, bytes)
            fields[name] = value.encode() if is_bytes and isinstance(value, str) else value
    return kind(failed.message, hint=failed.hint, **fields)


def _details(error: EnvhubError) -> dict[str, str | float | tuple[str, ...]]:
    found: dict[str, str | float | tuple[str, ...]] = {}
    for name, value in vars(error).items():
        if name in _FIELDS[type(error)] and value:
            value = value.decode(errors="replace") if isinstance(value, bytes) else value
            if not isinstance(value, str) or len(value) <= MAX_DETAIL:  # or no client takes it
                found[name] = value
    return found


_FIELDS = {
    kind: {
        name: parameter
        for name, parameter in inspect.signature(kind).parameters.items()
        if name not in ("message", "hint")
    }
    for kind in errors.BY_CODE.values()
}
_KINDS = errors.BY_CODE | {SANDBOX: errors.WorkerStartFailed}
