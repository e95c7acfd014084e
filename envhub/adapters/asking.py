"""Attributes of some of a crew's environments, more exactly than by a name alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from envhub.adapters.crew import Crew
from envhub.errors import RemoteProtocolError
from envhub.wire import infos as wire
from envhub.wire.vector import OF_SOME


def of_some(
    crew: Crew[Any],
    how: str,
    name: str,
    whom: Collection[int],
    given: Sequence[Any] = (),
    named: Mapping[str, Any] | None = None,
) -> dict[int, Any]:
    """Return what each of these environments answers.

    Args:
        crew: whose they are.
        how: "read", "call", "assign" or "wrappers"; see envhub/worker/asked.py.
        name: of the attribute.
        whom: which environments.
        given: arguments of the call.
        named: likewise.

    Raises:
        UsageError: an argument or an answer cannot be sent as it is.
        EnvironmentFailed: an environment raised.
    """
    asked = [[at for at in range(rows.start, rows.stop) if at in whom] for rows in crew.rows]
    words = list(given), dict(named or {})
    questions = []
    for some, rows in zip(asked, crew.rows, strict=True):
        question = [how, [at - rows.start for at in some], *words]
        questions.append(wire.encode_info((question, {}), name))
    found: dict[int, Any] = {}
    for some, answer in zip(asked, crew.ask(OF_SOME + name, questions), strict=True):
        values = decoded(answer, list)
        if len(values) != len(some):
            raise RemoteProtocolError("not one value for each environment")
        found |= zip(some, values, strict=True)
    return found


def decoded(data: bytes, kind: type) -> Any:
    """Return plain data of this kind.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        found = wire.decode_info(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise RemoteProtocolError(f"not plain data: {error}") from None
    if not isinstance(found, kind):
        raise RemoteProtocolError(f"a `{type(found).__name__}`, expected a `{kind.__name__}`")
    return found
