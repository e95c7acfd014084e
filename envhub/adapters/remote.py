"""Vector environments whose processes a hub elsewhere has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from envhub.adapters.crew import Crew
from envhub.client.native.blocking import SyncRemoteHub
from envhub.client.native.hub import RemoteHub, connect
from envhub.client.native.member import RemoteMember
from envhub.client.native.threadline import ThreadLine
from envhub.client.native.waiting import wait

Elsewhere = str | RemoteHub | SyncRemoteHub


def crew(
    hub: Elsewhere, name: str, counts: Sequence[int], options: bytes, stack: ExitStack, *,
    whole: bool, copy: bool,
) -> Crew[RemoteMember]:  # fmt: skip
    """Open a session for each of these numbers of environments.

    Args:
        hub: its address, or what `envhub.connect` has made of it. There is a connection of
            our own in any case.
        name: of the environment.
        counts: environments of each.
        options: keyword arguments for making each environment, in MessagePack.
        stack: closes them, and hangs up.
        whole: they are one object.
        copy: see `Crew`.

    Raises: as `RemoteHub.open` and `envhub.connect`.
    """
    if isinstance(hub, str):
        hub = connect(hub)
    line = ThreadLine(hub.address)
    line.start()
    stack.callback(line.close)
    members = []
    for count in counts:
        members.append(RemoteMember(line, name, count, options, whole=whole))
        stack.callback(members[-1].close)
    return Crew(members, wait, copy=copy)
