"""The interpreter: executes agent code in its own process and says how it went.

Nothing here is a wall. Agent code shares the process and may rewrite all of it; what it can
forge is its own output and its own answers, never a verdict: those are the keeper's.
"""

from __future__ import annotations

import builtins
import fcntl
import io
import json
import linecache
import os
import signal
import socket
import sys
import traceback
from types import TracebackType
from typing import Any, NoReturn

from envhub.runner.channel import Channel
from envhub.wire import plain
from envhub_sandbox import syscalls
from envhub_sandbox.plan import Plan

_CONTROL, FIRST_FREE = 3, 4
_NAME = "<agent>"


def become(keeper: socket.socket, stdout: int, stderr: int, wall: Plan | None) -> NoReturn:
    """Turn this fresh fork of the keeper into an interpreter; never returns."""
    try:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        control = _arrange(keeper.detach(), stdout, stderr)
        if wall is not None:
            wall.run()
        _serve(Channel(socket.socket(fileno=control)))
        os._exit(0)
    except SystemExit as leaving:
        _flush()
        os._exit(_exit_code(leaving))
    except BaseException:
        traceback.print_exc()
        _flush()
    finally:
        os._exit(1)


def _arrange(control: int, stdout: int, stderr: int) -> int:
    """Put descriptors where programs expect them, and close all others."""
    kept = [fcntl.fcntl(d, fcntl.F_DUPFD, 10) for d in (stdout, stderr, control)]
    os.dup2(kept[0], 1)
    os.dup2(kept[1], 2)
    os.dup2(kept[2], _CONTROL, inheritable=False)
    syscalls.close_from(FIRST_FREE)
    sys.stdout = io.TextIOWrapper(
        io.FileIO(1, "w", closefd=False), encoding="utf-8", errors="surrogateescape",
        line_buffering=True, write_through=True,
    )  # fmt: skip
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), encoding="utf-8", errors="backslashreplace",
        line_buffering=True, write_through=True,
    )  # fmt: skip
    return _CONTROL


def _serve(keeper: Channel) -> None:
    # `exit` and `quit` come with the site module, which the runner leaves out
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    while (request := keeper.receive()) is not None:
        if "run" in request:
            keeper.send(_run(request["run"], request.get("stdin", ""), names))
        else:
            keeper.send(_call(request, names))


def _run(code: str, stdin: str, names: dict[str, Any]) -> dict[str, Any]:
    # so that a traceback can quote the line
    linecache.cache[_NAME] = (len(code), None, code.splitlines(keepends=True), _NAME)
    cut = None
    exit_code = 0
    try:
        _feed(stdin)
        exec(compile(code, _NAME, "exec"), names)  # noqa: S102  (the purpose of this process)
    except SystemExit:
        raise
    except BaseException as error:
        exit_code = 1
        cut = "memory" if isinstance(error, MemoryError) else None
        _print_error(error)
    _flush()
    return {"exit_code": exit_code, "cut": cut}


def _call(request: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    try:
        arguments = plain.from_json(request["args"])
        options = plain.from_json(request["kwargs"])
        value = names[request["call"]](*arguments, **options)
        return {"value": json.dumps(plain.to_json(value))}
    except plain.NotPlain as error:
        return {"unfit": str(error)}
    except BaseException as error:
        return {"raised": [type(error).__name__[:200], _words(error)]}


def _words(error: BaseException) -> str:
    try:
        return str(error)[:2000]
    except BaseException:
        return ""


def _feed(text: str) -> None:
    """Give the code, and processes that it starts, this standard input."""
    if text:
        folder = os.environ["TMPDIR"]
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        data = text.encode(errors="surrogatepass")
        while data:
            data = data[os.write(file, data) :]
        os.lseek(file, 0, os.SEEK_SET)
    else:  # not a file: code that filled /tmp must still be able to clean up
        file = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(file, 0)
    os.close(file)
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")


def _print_error(error: BaseException) -> None:
    """Print a traceback that begins at the agent's own code."""
    own: TracebackType | None = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename == __file__:
        own = own.tb_next
    try:
        traceback.print_exception(type(error), error, own)
    except BaseException:
        print(type(error).__name__, file=sys.stderr)


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    print(leaving.code, file=sys.stderr)
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
