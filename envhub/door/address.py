"""Which environment a URL names: `/envs/{name}/…`, or the root for the default one.

An id of Gymnasium's stands there as it is, `/envs/gym:ALE/Pong-v5/ws`; a slash in it may be
encoded as `%2F`, which is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from envhub.door.holders import holder_of
from envhub.errors import EnvhubError, ManifestError, NotAllowed, UnknownEnvironment
from envhub.hub.environments import gym
from envhub_sandbox import SandboxError

if TYPE_CHECKING:
    from envhub.hub.environments.manifest import Manifest
    from envhub.hub.hub import Hub
    from envhub.wire.messages import Described


class _Named(Convertor[str]):
    """What stands between `/envs/` and a route: all names have no slash, but ids may."""

    regex = f"{gym.PATTERN}(?=/|$)|[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("environment", _Named())
NAME = "{name:environment}"  # in a path of Starlette's


def hub_of(connection: HTTPConnection) -> Hub:
    """Return the hub behind this door."""
    hub: Hub = connection.app.state.hub
    return hub


def client_of(connection: HTTPConnection) -> str:
    """Return what clients are served in turn by: whose token, or the address of the peer."""
    return holder_of(connection).key


def manifest_of(connection: HTTPConnection) -> Manifest:
    """Return the manifest of the environment that the URL names.

    Raises:
        HTTPException: 404; there is none of that name, or no default one. 403; whoever asks
            may not use it. 500; its manifest is not valid.
    """
    name = connection.path_params.get("name", connection.app.state.default)
    if name is None:
        raise HTTPException(404, "no environment stands at the root: use /envs/{name}")
    try:
        holder_of(connection).check(name)  # first: what there is besides is not theirs to know
        return hub_of(connection).catalog[name]
    except NotAllowed as error:
        raise HTTPException(403, str(error)) from error
    except UnknownEnvironment as error:
        raise HTTPException(404, f"{error}; {error.hint}") from error
    except ManifestError as error:
        raise HTTPException(500, str(error)) from error


async def app_of(connection: HTTPConnection) -> Described | None:
    """Return what the author's app says of itself; None where no app of OpenEnv's stands.

    None, too, for one that cannot be started: the request itself will meet that, and say so.
    """
    manifest = manifest_of(connection)
    if manifest.format != "openenv":
        return None
    try:
        return await hub_of(connection).describe(manifest.name)
    except (EnvhubError, SandboxError):
        return None
