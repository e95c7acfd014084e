"""One request to one reply. The one place where an author's exception becomes a message.

The work itself is a generator that yields each call into the environment as (function,
arguments, options) and is sent the result: so the blocking shell and the event loop's run
the same steps, and differ only in how they call.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from envhub.authoring import schema
from envhub.authoring.schema import Signature
from envhub.errors import (
    EnvhubError,
    EnvironmentFailed,
    InvalidAction,
    ResetNeeded,
    UsageError,
)
from envhub.wire.framing import HEADER, MAX_FRAME_BYTES, encode_frame
from envhub.wire.messages import (
    MAX_TEXT,
    Close,
    Closed,
    Continue,
    Describe,
    Described,
    Failed,
    Finished,
    Form,
    Gather,
    GetState,
    Invoke,
    Invoked,
    Reply,
    Request,
    Reset,
    StateRead,
    Step,
    encode,
)
from envhub.worker import arguments, hidden, parts

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
Work = Generator[Call, Any, Reply]
By = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class Answering:
    """Holds the environment of one session, from the first reset on.

    Args:
        environment: its class, called without arguments.
        signature: what its annotations say.
        frame_bytes: longest reply.

    Attributes:
        environment_class: as given.
        frame_bytes: as given.
        cancels: whether the environment can be asked to leave a call.
        by: makes the calls of `answer`; None calls right away.
    """

    def __init__(
        self, environment: type, signature: Signature, frame_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        self.environment_class = environment
        self._signature = signature
        self.frame_bytes = frame_bytes
        self._environment: Any = None
        self._in_episode = False
        self._has_parts = parts.has(environment)
        self._has_plain_steps = False  # until there is an environment
        self.cancels = callable(getattr(environment, "cancel", None))
        self.by: By | None = None
        self._parts: Any = None  # of a step that is under way

    def framed(self, reply: Reply) -> bytes:
        """Return the reply as bytes for the hub; one that is too long becomes a failure."""
        data = encode(reply)
        if len(data) <= self.frame_bytes:
            return HEADER.pack(len(data)) + data
        words = f"the reply: a frame of {len(data)} bytes is over {self.frame_bytes}"
        return encode_frame(encode(failed(reply.op, ValueError(words))))

    def answer(self, request: Request) -> Reply:
        """Return the reply to one request. Never raises: an author's errors become Failed."""
        if type(request) is Step and self._has_plain_steps:
            try:
                return self._step_at_once(request)
            except BaseException as error:
                return failed(request.op, error)
        work = self._work(request)
        try:
            call = next(work)
            while True:
                try:
                    function, arguments, options = call
                    if self.by is None:
                        result = function(*arguments, **options)
                    else:
                        result = self.by(function, arguments, options)
                except BaseException as error:
                    call = work.throw(error)
                else:
                    call = work.send(result)
        except StopIteration as done:
            reply: Reply = done.value
            return reply
        except BaseException as error:
            return failed(request.op, error)

    async def answer_async(
        self, request: Request, call_async: Callable[..., Awaitable[Any]]
    ) -> Reply:
        """Return the reply to one request, calling by `call_async(function, …)`."""
        work = self._work(request)
        try:
            call = next(work)
            while True:
                try:
                    function, arguments, options = call
                    result = await call_async(function, *arguments, **options)
                except BaseException as error:
                    call = work.throw(error)
                else:
                    call = work.send(result)
        except StopIteration as done:
            reply: Reply = done.value
            return reply
        except BaseException as error:
            return failed(request.op, error)

    def cancel(self) -> Any:
        """Ask the environment to leave the call it is in; what it returns may be awaitable."""
        return self._environment.cancel() if self._environment is not None else None

    def _work(self, request: Request) -> Work:
        match request:
            case Step():
                return self._step(request)
            case Reset():
                return self._reset(request)
            case Continue():
                return self._continue(request)
            case GetState():
                return self._state(request)
            case Invoke():
                return self._invoke(request)
            case Describe() | Gather() | Close():
                return self._beside(request)

    def _beside(self, request: Describe | Gather | Close) -> Work:
        if isinstance(request, Describe):
            return _described(request.op, self.environment_class, self._signature)
        if isinstance(request, Gather):
            raise UsageError(
                "an environment with `async` methods or a `cancel` cannot be vectorised"
            )
        if self._parts is not None:
            yield from self._leave_parts()
        if self._environment is not None and hasattr(self._environment, "close"):
            yield self._environment.close, (), {}
        return Closed(request.op)

    def _construct(self) -> Generator[Call, Any, None]:
        self._environment = yield self.environment_class, (), {}
        self._has_plain_steps = not self._has_parts

    def _reset(self, request: Reset) -> Work:
        options = arguments.mapping(request.options, request.form)
        options = arguments.accepted(options, self._signature.reset_options, request.form)
        if self._environment is None:
            yield from self._construct()
        if self._parts is not None:
            yield from self._leave_parts()
        self._in_episode = False
        value = yield self._method("reset", "reset_async"), (), options
        self._in_episode = True
        return schema.outcome(self._signature.observation, value, request.form, request.op)

    def _step_at_once(self, request: Step) -> Reply:
        """As `_step`, of an environment that is there and whose steps have no parts.

        Without a generator, which would cost each step as much as the rest of its way.
        """
        action, options = self._loaded(request)
        environment, by = self._environment, self.by
        method = getattr(environment, "step_async", None)
        if not callable(method):
            method = environment.step
        value = method(action, **options) if by is None else by(method, (action,), options)
        kind = self._signature.observation
        reply = schema.outcome(kind, value, request.form, request.op)
        if reply.terminated or reply.truncated:
            self._in_episode = False
        return reply

    def _loaded(self, request: Step) -> tuple[Any, dict[str, Any]]:
        form = request.form
        if not self._in_episode and form == "msgpack":
            raise ResetNeeded("`step` before `reset`, or after the episode ended")
        action = self._signature.action.load(arguments.load(request.action, form))
        if not request.options:
            return action, {}
        options = arguments.mapping(request.options, form)
        if form == "json":
            options = arguments.known(options, self._signature.step_options)
        return action, options

    def _step(self, request: Step) -> Work:
        action, options = self._loaded(request)
        if self._environment is None:
            yield from self._construct()
        if self._parts is not None:
            yield from self._leave_parts()
        value = yield self._method("step", "step_async"), (action,), options
        if self._has_parts:
            self._parts = value
            if request.stream:
                return (yield from self._continue(request))
            value = yield from self._last_part()
        return self._stepped(request.op, value, request.form)

    def _continue(self, request: Step | Continue) -> Work:
        value = parts.NO_MORE
        if self._parts is not None:
            value = yield from self._part()
        if value is parts.NO_MORE:
            return Finished(request.op)
        return self._stepped(request.op, value, request.form, is_part=True)

    def _part(self) -> Generator[Call, Any, Any]:
        """Go on to the next part; a step that raises has no more."""
        under_way, self._parts = self._parts, None
        value = yield parts.following(under_way)
        if value is not parts.NO_MORE:
            self._parts = under_way
        return value

    def _last_part(self) -> Generator[Call, Any, Any]:
        last = parts.NO_MORE
        while (value := (yield from self._part())) is not parts.NO_MORE:
            last = value
        if last is parts.NO_MORE:
            raise ValueError("`step` has ended without a part")
        return last

    def _leave_parts(self) -> Generator[Call, Any, None]:
        """End a step whose parts nobody wants any more."""
        under_way, self._parts = self._parts, None
        yield parts.ending(under_way)

    def _stepped(self, op: int, value: Any, form: Form, *, is_part: bool = False) -> Reply:
        kind = self._signature.observation
        reply = schema.outcome(kind, value, form, op, is_part=is_part)
        if reply.terminated or reply.truncated:
            self._in_episode = False
        return reply

    def _state(self, request: GetState) -> Work:
        if self._environment is None:
            yield from self._construct()
        environment = self._environment
        value = yield (lambda: environment.state), (), {}
        fields = self._signature.state.dump(value)
        encode = schema.encode_openenv if request.form == "json" else schema.encode_native
        return StateRead(request.op, encode(fields))

    def _invoke(self, request: Invoke) -> Work:
        if self._environment is None:
            yield from self._construct()
        if not hasattr(self._environment, "invoke"):
            tools = request.method.startswith("tools/")
            what = f"{request.method} is not supported for this environment"
            raise UsageError("Environment does not support MCP" if tools else what)
        params = arguments.mapping(request.params, "json")
        value = yield self._method("invoke", "invoke_async"), (request.method, params), {}
        return Invoked(request.op, schema.encode_openenv(value))

    def _method(self, name: str, twin_name: str) -> Any:
        """Return the environment's own `_async` twin, as OpenEnv does, else the method."""
        twin = getattr(self._environment, twin_name, None)
        return twin if callable(twin) else getattr(self._environment, name)


def failed(op: int, error: BaseException) -> Failed:
    """Return the message for an exception: an author's, or a misuse that we found."""
    if isinstance(error, InvalidAction):
        return Failed(op, error.code, _text(str(error)), "", error.detail)
    if isinstance(error, EnvhubError):
        return Failed(op, error.code, _text(_with_hint(error)))
    # hidden before it is cut: half of a value would be found by nobody
    trace = hidden.without("".join(traceback.format_exception(error)))[-MAX_TEXT // 4 :]
    detail = schema.encode_openenv({"type": type(error).__name__})
    return Failed(op, EnvironmentFailed.code, _text(_words(error)), _text(trace), detail)


def _words(error: BaseException) -> str:
    """`str(error)`, as OpenEnv's clients are shown it; the type goes beside it."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} that cannot be printed>"


def _with_hint(error: EnvhubError) -> str:
    return f"{error}\nhint: {error.hint}" if error.hint else str(error)


def _text(text: str) -> str:
    """Return what the wire takes: UTF-8, and not longer than MAX_TEXT."""
    return hidden.without(text).encode(errors="replace").decode()[: MAX_TEXT // 4]


def _described(op: int, environment: type, signature: Signature) -> Described:
    first, _, _ = (environment.__doc__ or "").strip().partition("\n\n")
    return Described(
        op,
        environment.__name__,
        _text(" ".join(first.split())),
        schema.encode_openenv(signature.action.schema()),
        schema.encode_openenv(signature.observation.schema()),
        schema.encode_openenv(signature.state.schema()),
        schema.encode_openenv((signature.reset_observation or signature.observation).schema()),
        signature.reset_options,
        _text(getattr(environment, "app_name", "")),
        getattr(environment, "production", False) is True,
        getattr(environment, "is_application", False) is True,
    )
