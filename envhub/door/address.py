"""Which environment a URL names: `/envs/{name}/…`, or the root for the default one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from envhub.door.holders import holder_of
from envhub.errors import EnvhubError, ManifestError, NotAllowed, UnknownEnvironment
from envhub_sandbox import SandboxError

if TYPE_CHECKING:
    from envhub.hub.environments.manifest import Manifest
    from envhub.hub.hub import Hub
    from envhub.wire.messages import Described


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
