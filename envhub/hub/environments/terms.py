"""The terms of a hub: what environments get, of what they ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envhub.errors import UsageError
from envhub.hub.environments import caps as limits
from envhub.hub.environments.catalog import Catalog
from envhub.hub.environments.grants import NOTHING, Grant
from envhub.hub.environments.manifest import Manifest


class Terms:
    """What the operator has decided, and what follows from it for each environment.

    Args: as `Hub`; `catalog` has the environments.

    Raises: as `Hub`.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        caps: Mapping[str, float],
        variables: Iterable[str],
        grants: Mapping[str, Grant],
        allow_unprotected_agent_code: bool,
    ) -> None:
        self._catalog = catalog
        self._caps = limits.checked(caps)
        self._variables = frozenset([variables] if isinstance(variables, str) else variables)
        self._grants = {catalog[name].name: grant for name, grant in grants.items()}
        self._unprotected = allow_unprotected_agent_code

    def manifest(self, name: str) -> Manifest:
        """Return what is in force for environment `name`, caps and grants applied.

        Raises: as `Hub.manifest`.
        """
        return self._grant(name).applied(limits.lowered(self._catalog[name], self._caps))

    def variables(self, manifest: Manifest) -> Mapping[str, str]:
        """Return the environment variables that an environment gets.

        Args:
            manifest: in force.
        """
        return self._grant(manifest.name).handed(manifest, self._variables)

    def check_protection(self, manifest: Manifest, isolation: str) -> None:
        """Refuse agent code where nothing holds it, unless the operator wants that.

        Raises:
            UsageError: it is refused.
        """
        if manifest.agent_code and isolation == "none" and not self._unprotected:
            raise UsageError(
                f"environment `{manifest.name}` runs agent code, and isolation `none` holds"
                " nothing",
                hint='`isolation="best"` takes what this machine has; '
                "allow_unprotected_agent_code lets such code do all that you may",
            )

    def networks_not_allowed(self) -> list[str]:
        """Return which environments ask for a network that they do not get."""
        asked = [n for n in self._catalog.names() if self._catalog[n].network == "public"]
        return [name for name in asked if not self._grant(name).network]

    def variables_not_allowed(self) -> dict[str, list[str]]:
        """Return by environment which variables it asks for and has in no way."""
        found: dict[str, list[str]] = {}
        for name in self._catalog.names():
            manifest = self._catalog[name]
            has = {*self._variables, *manifest.variable_defaults, *self._grant(name).variables}
            if missing := [v for v in manifest.variables if v not in has]:
                found[name] = missing
        return found

    def _grant(self, name: str) -> Grant:
        return self._grants.get(name, NOTHING)
