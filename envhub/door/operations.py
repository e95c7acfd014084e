"""The routes of an operator: is it well, what does it do, who uses it, and let go of one.

/healthz and /readyz answer without a token, for what asks them is a load balancer or a
supervisor that has none. To such a one they say a word from a closed set, and no name. The
rest is what a token opens. Where there are no tokens, the list of sessions and the end of one
are for this machine alone, even if the door is open to others.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from envhub.door import metrics
from envhub.door.address import hub_of
from envhub.door.holders import SCOPE_KEY, Holder, holder_of
from envhub.door.tokens import STRANGER
from envhub.hub.accounts import facts, own
from envhub.hub.accounts.facts import SessionFacts, Summary

_JSON = "application/json"
_RETRY_AFTER = {"retry-after": "1"}


async def healthz(request: Request) -> Response:
    """Say that the event loop answers, which is all that a restart could mend."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say whether a session of the environment at the root could be opened now."""
    why = hub_of(request).facts().why_not(request.app.state.default)
    if not why:
        return JSONResponse({"status": "ready"})
    detail = sorted(why) if request.scope.get(STRANGER) else why
    return JSONResponse({"status": "not ready", "reasons": detail}, 503, _RETRY_AFTER)


async def scrape(request: Request) -> Response:
    """Return everything that is counted, for Prometheus."""
    _check_sees_all(request)
    page = metrics.page(hub_of(request), request.app.state.default)
    return Response(page, media_type=metrics.MEDIA_TYPE)


async def summary(request: Request) -> Response:
    """Return the hub, its process and its environments in one document, for `envhub top`."""
    _check_sees_all(request)
    hub = hub_of(request)
    known = hub.facts()
    return _json(
        Summary(
            hub=known,
            not_ready={str(w): d for w, d in known.why_not(request.app.state.default).items()},
            refused=hub.counters.refused,
            process=own.usage(),
            environments=facts.usage(hub),
        )
    )


async def environments(request: Request) -> Response:
    """List the environments, with what is in force for each."""
    may = holder_of(request).may_open
    found = facts.environments(hub_of(request))
    return _json({"environments": [known for known in found if may(known.name)]})


async def sessions(request: Request) -> Response:
    """List the sessions that the caller may see."""
    return _json({"sessions": [*filter(_sees(request), hub_of(request).sessions())]})


async def session(request: Request) -> Response:
    """Return what is known of one session that the caller may see, with its bill."""
    return _json(_seen(request))


async def end(request: Request) -> Response:
    """Close a session that the caller may see; its client is told at its next call."""
    await hub_of(request).counters.end(_seen(request).id)
    return Response(status_code=204)


ROUTES = (
    Route("/healthz", healthz),
    Route("/readyz", readyz),
    Route("/metrics", scrape),
    Route("/v1/hub", summary),
    Route("/v1/envs", environments),
    Route("/v1/sessions", sessions),
    Route("/v1/sessions/{id}", session),
    Route("/v1/sessions/{id}", end, methods=["DELETE"]),
)


def _seen(request: Request) -> SessionFacts:
    """Return the session that the address names.

    Raises:
        HTTPException: 404; there is none that the caller may see. 403; it may see none.
    """
    wanted, sees = request.path_params["id"], _sees(request)
    found = hub_of(request).counters.session(wanted)
    if found is None or not sees(found):
        raise HTTPException(404, f"no session {wanted}")
    return found


def _sees(request: Request) -> Callable[[SessionFacts], bool]:
    """Return which sessions the caller may see: its own, or all where nobody bears a token.

    Raises:
        HTTPException: 403; nobody does, and it comes from another machine.
    """
    holder: Holder | None = request.scope.get(SCOPE_KEY)
    if holder is not None:
        return lambda session: session.client == holder.key
    host = request.client.host if request.client is not None else "127.0.0.1"
    if not ip_address(host).is_loopback:
        raise HTTPException(403, "without tokens, sessions are shown to this machine alone")
    return lambda session: True


def _check_sees_all(request: Request) -> None:
    """Refuse who may not know of every environment.

    Raises:
        HTTPException: 403; its token has `envs=`.
    """
    if holder_of(request).environments is not None:
        raise HTTPException(403, "this is about all environments, and the token is for some")


def _json(data: Any) -> Response:
    return Response(msgspec.json.encode(data), media_type=_JSON)
