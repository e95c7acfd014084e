"""What adapters ask some of the environments of a process for, with OF_SOME before a name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium

from envhub.errors import LocalProtocolError
from envhub.wire import infos as wire


def of_some(
    envs: Sequence[gymnasium.Env[Any, Any]],
    name: str,
    how: str,
    whom: list[int],
    arguments: Sequence[Any] = (),
    named: dict[str, Any] | None = None,
) -> bytes:
    """Return a value of each of these environments, whole.

    Args:
        envs: all of them.
        name: of the attribute.
        how: "read" it; "call" it, or read it where it is no method; "assign" to it, on the
            outermost wrapper; or "wrappers", whatever its name: the names of all classes that
            the wrappers around the environment are of.
        whom: which of them, by index.
        arguments: of the call.
        named: likewise.

    Raises:
        UsageError: a value cannot be sent as it is.
    """
    ask = _ASKING.get(how)
    if ask is None:
        raise LocalProtocolError(f"asked for {how!r}")
    values = [ask(envs[i], name, *arguments, **(named or {})) for i in whom]
    return wire.encode_info(values, name)


def _read(env: gymnasium.Env[Any, Any], name: str) -> Any:
    return env.get_wrapper_attr(name)


def _call(env: gymnasium.Env[Any, Any], name: str, /, *given: Any, **named: Any) -> Any:
    found = env.get_wrapper_attr(name)
    return found(*given, **named) if callable(found) else found


def _assign(env: gymnasium.Env[Any, Any], name: str, value: Any) -> None:
    setattr(env, name, value)


def _wrappers(env: gymnasium.Env[Any, Any], _: str) -> list[str]:
    names: dict[str, None] = {}
    while isinstance(env, gymnasium.Wrapper):
        names |= {f"{kind.__module__}.{kind.__qualname__}": None for kind in type(env).__mro__}
        env = env.env
    return list(names)


_ASKING: dict[str, Callable[..., Any]] = {
    "read": _read, "call": _call, "assign": _assign, "wrappers": _wrappers,
}  # fmt: skip
