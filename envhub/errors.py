"""Every error that envhub raises on purpose.

* EnvhubError
    * UsageError                  the caller broke the contract; do not retry
        * UnknownEnvironment
        * ResetNeeded
        * InvalidAction
        * InvalidOption
        * SchemaMismatch
        * SessionClosed
        * OutOfOrder
        * HubForked
        * NotAllowed              who asks may not have it; others may
    * CapacityError               the hub is full or closing; retry later
    * EnvironmentFailed           the environment's own code raised
    * WorkerError                 the process under the environment is gone
        * WorkerStartFailed
        * WorkerLost
        * SessionLost
        * LimitExceeded
        * DeadlineExceeded
        * Cancelled
    * ConnectionLost              a hub elsewhere cannot be reached; retry later
    * AgentSandboxFailed          a sandbox for agent code could not be had
    * ProtocolError               bytes on a socket were not a valid message
        * LocalProtocolError
        * RemoteProtocolError
    * ManifestError               an `env.toml` says something impossible
    * BuildFailed                 an environment's packages cannot be installed

Two questions place a new error: which boundary did the failure cross, and what should the
caller do about it? `code` is the name on the wire and in metrics; it never changes once
released. `retryable` is the answer to the second question. `hint`, where there is one, says
what to do next. What the machine cannot isolate is `envhub_sandbox.SandboxError`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar


class EnvhubError(Exception):
    """Base of every error that envhub raises on purpose.

    Args:
        message: what was expected and what came, one sentence without a full stop.
        hint: what the reader can do about it, or "".
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(EnvhubError):
    """The caller broke the contract of the API or of the wire."""

    code = "usage"


class UnknownEnvironment(UsageError):
    """No environment of that name is on the search path."""

    code = "unknown_environment"


class ResetNeeded(UsageError):
    """`step` was called before `reset`, or after the episode ended."""

    code = "reset_needed"


class InvalidAction(UsageError):
    """The action does not fit the environment's action type.

    Args:
        message: the first thing that is wrong, with its path.
        detail: every error as JSON, in pydantic's form.
    """

    code = "invalid_action"

    def __init__(self, message: str, *, detail: bytes = b"[]", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.detail = detail


class InvalidOption(UsageError):
    """`reset` was given an option that the environment does not know, or of a wrong type."""

    code = "invalid_option"


class SchemaMismatch(UsageError):
    """The environment's types are not those that the client was written for.

    Args:
        message: which environment, and in what it differs where that can be known.
        expected: digest that was pinned.
        found: digest of what there is.
        difference: a line for each change; empty if only the digest was pinned.
    """

    code = "schema_mismatch"

    def __init__(
        self,
        message: str,
        *,
        expected: str = "",
        found: str = "",
        difference: tuple[str, ...] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.expected = expected
        self.found = found
        self.difference = difference


class SessionClosed(UsageError):
    """The session was closed: by its owner, with its hub, or because nobody called it.

    Args:
        message: which of these.
        verdict: "idle" when nobody had called it for `idle_s`; "" otherwise.
        limit: "idle_s" then.
        allowed: seconds without a call that it might have been open.
        observed: seconds that it was.
    """

    code = "session_closed"

    def __init__(
        self,
        message: str,
        *,
        verdict: str = "",
        limit: str = "",
        allowed: float = 0,
        observed: float = 0,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.limit = limit
        self.allowed = allowed
        self.observed = observed


class OutOfOrder(UsageError):
    """A numbered call came again when it could not, or before its turn."""

    code = "out_of_order"


class HubForked(UsageError):
    """The program forked after its hub had started; a hub serves one process only."""

    code = "hub_forked"


class NotAllowed(UsageError):
    """The server has it, and not for whoever bears this token."""

    code = "not_allowed"


class CapacityError(EnvhubError):
    """No place became free in time, memory is short, or the hub is closing.

    Args:
        message: which of these.
        active: sessions that were open; 0 when that is not the reason.
        limit: how many may be.
    """

    code = "capacity"
    retryable = True

    def __init__(
        self, message: str, *, active: int = 0, limit: int = 0, hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.active = active
        self.limit = limit


class EnvironmentFailed(EnvhubError):
    """The environment's own code raised.

    Args:
        message: type and text of the author's exception.
        traceback: of the author's frames, as text from inside the worker.
        output: what the environment had printed during this call, the last part of it.
    """

    code = "environment_failed"

    def __init__(
        self, message: str, *, traceback: str = "", output: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback
        self.output = output


class WorkerError(EnvhubError):
    """The process under the environment is gone.

    Args:
        message: what it was doing and why it ended.
        verdict: why the process ended, from `envhub_sandbox.Cause`; "" when unknown.
        output: what it had printed, the last part of it.
        limit: the limit that was passed, by its name in env.toml; "" if none was.
        allowed: by that limit, in the unit that its name ends in.
        observed: likewise; 0 where it cannot be known.
    """

    code = "worker"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        verdict: str = "",
        output: str = "",
        limit: str = "",
        allowed: float = 0,
        observed: float = 0,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.verdict = verdict
        self.output = output
        self.limit = limit
        self.allowed = allowed
        self.observed = observed


class WorkerStartFailed(WorkerError):
    """The worker ended, or said nothing, before it was ready. Not retried: it would recur."""

    code = "worker_start_failed"
    retryable = False


class WorkerLost(WorkerError):
    """The session's process ended in the middle of an episode."""

    code = "worker_lost"


class SessionLost(WorkerError):
    """A hub elsewhere does not have the session any more, nor its episode.

    It was restarted, or heard nothing from us for longer than it keeps a session.
    """

    code = "session_lost"


class LimitExceeded(WorkerError):
    """The session was ended because it passed a limit of its environment."""

    code = "limit_exceeded"
    retryable = False


class DeadlineExceeded(WorkerError):
    """The call was not answered in time, or its episode's time was over.

    The session's process was killed.
    """

    code = "deadline_exceeded"
    retryable = False


class Cancelled(WorkerError):
    """The call was cancelled by its owner, and the episode is lost.

    The session's process was killed. `limit` is "cancel_s" where the environment was asked
    first, and did not leave the call in that time; "" where there was nothing to ask.
    """

    code = "cancelled"
    retryable = False


class ConnectionLost(EnvhubError):
    """A hub elsewhere cannot be reached, or has not answered in time.

    Whether the call was carried out is not known. The session may still be there: the next
    call tries to go on with it.
    """

    code = "connection_lost"
    retryable = True


class AgentSandboxFailed(EnvhubError):
    """A sandbox for agent code could not be opened, or its keeper broke the protocol."""

    code = "agent_sandbox_failed"
    retryable = True


class ProtocolError(EnvhubError):
    """Bytes on a socket were not a valid message."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """We tried to send something that the protocol forbids: a bug on this side."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol forbids.

    Args:
        message: what.
        frame_bytes: length of a frame that was too long; 0 if it was something else.
    """

    code = "remote_protocol"

    def __init__(self, message: str, *, frame_bytes: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.frame_bytes = frame_bytes


class ManifestError(EnvhubError):
    """An `env.toml` is not valid; the message names file and key."""

    code = "manifest"


class BuildFailed(EnvhubError):
    """An environment's packages cannot be installed; the message has the resolver's words."""

    code = "build_failed"


def _tree(kind: type[EnvhubError]) -> Iterator[type[EnvhubError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


BY_CODE = {
    kind.code: kind for kind in _tree(EnvhubError)
}  # for those who hear of one on a wire
