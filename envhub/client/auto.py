"""Environments by name, as OpenEnv's AutoEnv and AutoAction have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envhub.client.fetch import document
from envhub.client.provider import EnvHubProvider, named
from envhub.client.websocket import EnvClient
from envhub.errors import RemoteProtocolError

if TYPE_CHECKING:
    from pydantic import BaseModel

_TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
    "null": None,
}


class AutoEnv:
    """Finds environments: those of a server, or those on this machine's search path."""

    @classmethod
    def list_environments(cls, base_url: str | None = None) -> dict[str, str]:
        """Return each environment's name and description.

        Args:
            base_url: of a server; None for the search path of `envhub list`.
        """
        if base_url is None:
            from envhub.hub.environments.catalog import Catalog, search_path

            catalog = Catalog(search_path())
            return {name: catalog[name].description for name in catalog.names()}
        listed = document(base_url, "/envs")
        try:
            return {str(f["name"]): str(f["description"]) for f in listed["environments"]}
        except (KeyError, TypeError) as error:
            raise RemoteProtocolError(f"the server's list is none: {error!r}") from None

    @classmethod
    def from_env(
        cls, name: str, base_url: str | None = None, provider: Any = None, **options: Any
    ) -> EnvClient:
        """Return a client of the environment that a name means: "echo", or "me/echo-env".

        Args:
            name: of the environment.
            base_url: of a server; None starts one here, in `provider`.
            provider: None for an `EnvHubProvider`.
            options: of the client.

        Raises:
            UnknownEnvironment: there is none of that name.
        """
        if base_url is None:
            return EnvClient(provider=provider or EnvHubProvider(name), **options)
        return EnvClient(_url(name, base_url), **options)


class AutoAction:
    """Makes action classes of environments whose package is not installed here."""

    @classmethod
    def from_env(cls, name: str, base_url: str | None = None) -> type[BaseModel]:
        """Return a class with the fields that the environment's action has.

        It knows names, types and defaults. What else an action must be, the environment
        judges when it gets one.

        Args:
            name: of the environment.
            base_url: of a server; None starts one here for the moment.

        Raises:
            UnknownEnvironment: there is none of that name.
            RemoteProtocolError: the server describes nothing that a class can be.
        """
        if base_url is not None:
            return _checked_action(document(_url(name, base_url), "/schema"))
        with EnvHubProvider(name) as provider:
            return _checked_action(document(provider.start(), "/schema"))


def _url(name: str, base_url: str) -> str:
    return f"{base_url.rstrip('/')}/envs/{named(name, AutoEnv.list_environments(base_url))}"


def _checked_action(said: Any) -> type[BaseModel]:
    """Return the class of the action that a server describes.

    Raises:
        RemoteProtocolError: no class can be like that.
    """
    try:
        return _action(said["action"])
    except Exception as error:  # pydantic's own, and whatever a wrong shape leads to
        raise RemoteProtocolError(f"the server's action is none: {error}") from None


def _action(schema: dict[str, Any]) -> type[BaseModel]:
    from pydantic import BaseModel, ConfigDict, Field, create_model

    class Sent(BaseModel):
        """What was not set is not sent: the schema does not tell every default."""

        def model_dump(self, **how: Any) -> dict[str, Any]:
            return super().model_dump(**{"exclude_unset": True, **how})

    needed = schema.get("required", ())
    fields: dict[str, Any] = {}
    for name, said in schema.get("properties", {}).items():
        default = ... if name in needed else said.get("default")
        fields[name] = (_type(said), Field(default, description=said.get("description")))
    Sent.model_config = ConfigDict(
        extra="allow" if schema.get("additionalProperties") else "forbid"
    )
    model: type[BaseModel] = create_model(
        schema.get("title", "Action"), __base__=Sent, **fields
    )
    return model


def _type(schema: dict[str, Any]) -> Any:
    """Return the Python type that a part of a JSON Schema describes, as far as it is plain."""
    from typing import Literal, Union

    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "const" in schema:
        return Literal[schema["const"]]
    if "anyOf" in schema:
        return Union[tuple(_type(part) for part in schema["anyOf"])]  # noqa: UP007 (a tuple)
    kind = schema.get("type")
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any
