"""The HTTP routes of one environment, as OpenEnv serves them, and with a memory where asked.

Each /reset, /step and /state has a session of its own that is closed before the reply is
sent, so a step over HTTP is a step of an environment that was never reset. Not so with
`?session_id=`, which is ours: then it is the session of that id (see `kept`), and an error
says what happened. Without, errors look as upstream's do; an environment's own exception is a
bare 500 there and here, and the header `envhub-cause` says what it was. `envhub-isolation` is
the tier of the session that answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from envhub.door import bodies, openapi
from envhub.door.address import app_of, hub_of, manifest_of
from envhub.door.frames import EPISODE_LOST, FAILURES, Failure, cause_of
from envhub.door.holders import holder_of
from envhub.door.kept import SCHEMA, KeptSessions
from envhub.door.splice import json_array, json_object
from envhub.errors import (
    CapacityError,
    InvalidAction,
    RemoteProtocolError,
    SchemaMismatch,
    WorkerLost,
)
from envhub.hub.environments import schemas

if TYPE_CHECKING:
    from envhub.hub.session import Session

CLIENT_GONE = 499  # nginx's number for a client that did not wait
_RETRY_AFTER_S = "1"
_ISOLATION = "envhub-isolation"  # the tier of the session that answered


class _Result(msgspec.Struct):
    """A worker's reply to reset or step, taken apart to add the key that may be missing."""

    observation: msgspec.Raw
    reward: bool | float | None = None
    done: bool = False
    metadata: msgspec.Raw = msgspec.Raw(b"null")


_RESULT = msgspec.json.Decoder(_Result)
_ENCODER = msgspec.json.Encoder()
Answer = Callable[[Request], Awaitable[Response]]
_JSON = "application/json"


async def health(request: Request) -> Response:
    """Say that the door answers."""
    manifest_of(request)
    return JSONResponse({"status": "healthy"})


async def document(request: Request) -> Response:
    """Return the OpenAPI document of the routes beside this one."""
    prefix = request.scope.get("root_path", "")
    return JSONResponse(openapi.document(prefix, production=await _in_production(request)))


async def environments(request: Request) -> Response:
    """List what this hub serves."""
    hub, default, may = hub_of(request), request.app.state.default, holder_of(request).may_open
    found = [hub.catalog[name] for name in hub.catalog.names() if may(name)]
    listed = [
        {"name": m.name, "description": m.description, "version": m.version} for m in found
    ]
    return JSONResponse(
        {"environments": listed, "default": default if default and may(default) else None}
    )


async def environment(request: Request) -> Response:
    """Say what stands at an address, which is one of ours and never an application's."""
    m = manifest_of(request)
    return JSONResponse({"name": m.name, "description": m.description, "version": m.version})


async def metadata(request: Request) -> Response:
    """Return name, description and whatever else an environment says of itself."""
    manifest = manifest_of(request)

    async def ask(session: Session) -> Response:
        found = await session.invoke_raw("get_metadata", b"{}")
        with session.held_to_protocol():
            return Response(json_object(found), media_type=_JSON)

    async def describe() -> Response:
        described = await hub_of(request).describe(manifest.name)
        found = {
            "name": described.title,
            "description": described.description or manifest.description,
            "readme_content": None,
            "version": manifest.version,
            "author": None,
            "documentation_url": None,
        }
        return Response(_ENCODER.encode(found), media_type=_JSON)

    if manifest.format == "openenv":  # its own method says it
        return await in_fresh_session(request, manifest.name, ask)
    return await attend(request, describe)


async def schema(request: Request) -> Response:
    """Return the JSON Schemas of the environment's types."""
    manifest = manifest_of(request)

    async def describe() -> Response:
        described = await hub_of(request).describe(manifest.name)
        parts = {name: json_object(getattr(described, name)) for name in schemas.PARTS}
        text = ",".join(f'"{name}":{value}' for name, value in parts.items())
        digest = {SCHEMA: schemas.digest(schemas.document(described))}
        return Response(f"{{{text}}}", headers=digest, media_type=_JSON)

    return await attend(request, describe)


def simulated(answer: Answer) -> Answer:
    """Return a route that is not there in production: there, only tools reach an episode."""

    async def guarded(request: Request) -> Response:
        if await _in_production(request):
            raise HTTPException(404)
        return await answer(request)

    return guarded


async def _in_production(request: Request) -> bool:
    described = await app_of(request)
    return request.app.state.production or (described is not None and described.production)


@simulated
async def state(request: Request) -> Response:
    """Return the state of a fresh environment."""
    name = manifest_of(request).name

    async def read(session: Session) -> Response:
        payload = await session.state_raw(form="json")
        with session.held_to_protocol():
            return Response(json_object(payload), media_type=_JSON)

    return await _in_session(request, name, read)


@simulated
async def reset(request: Request) -> Response:
    """Begin an episode, whose first observation is all there will be of it."""
    name = manifest_of(request).name
    options = bodies.reset_options(request.headers, await bodies.read(request))

    async def begin(session: Session) -> Response:
        observed = await session.reset_raw(options, form="json")
        with session.held_to_protocol():
            return _result(observed.payload)

    return await _in_session(request, name, begin, begins=True)


@simulated
async def step(request: Request) -> Response:
    """Take one action in a fresh environment."""
    name = manifest_of(request).name
    action, options = bodies.step_arguments(request.headers, await bodies.read(request))

    async def take(session: Session) -> Response:
        observed = await session.step_raw(action, form="json", options=options)
        with session.held_to_protocol():
            return _result(observed.payload)

    return await _in_session(request, name, take)


def _result(payload: bytes) -> Response:
    """Return the reply with its four keys, always all four.

    Raises:
        RemoteProtocolError: the worker's payload is not a result.
    """
    try:
        result = _RESULT.decode(json_object(payload))
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"expected a result from the worker: {error}") from error
    if result.reward is not None:
        result.reward = float(result.reward)  # True is a reward of 1.0, as upstream has it
    return Response(_ENCODER.encode(result), media_type=_JSON)


async def _in_session(
    request: Request,
    name: str,
    use: Callable[[Session], Awaitable[Response]],
    *,
    begins: bool = False,
) -> Response:
    """Return what `use` makes of the session that the request names, or of a fresh one."""
    key = request.query_params.get("session_id")
    if key is None:
        return await in_fresh_session(request, name, use)
    sessions: KeptSessions = request.app.state.sessions
    holder = holder_of(request)
    kept = sessions.find(name, key, holder.name)
    if kept is None:
        raise HTTPException(404, f"Unknown session_id: {key}")
    episode = kept.episode

    async def work() -> Response:
        if episode.lost and not begins:
            return _explained(WorkerLost(EPISODE_LOST))
        await holder.turn()
        try:
            with kept.in_use() as session:
                response = await use(session)
        except InvalidAction:
            raise  # which looks as it does without an id
        except FAILURES as failure:
            return _explained(failure)
        if begins:
            episode.lost = False
        response.headers[_ISOLATION] = session.receipt.tier
        return response

    return await attend(request, work)


async def in_fresh_session(
    request: Request, name: str, use: Callable[[Session], Awaitable[Response]]
) -> Response:
    """Return what `use` makes of a session that is opened for it, and closed after it."""
    holder = holder_of(request)

    async def work() -> Response:
        await holder.turn()
        with await holder.enter():
            session = await hub_of(request).open(
                name, schema=request.headers.get(SCHEMA), client=holder.key
            )
            tier = session.receipt.tier
            try:
                response = await use(session)
                response.headers[_ISOLATION] = tier
                return response
            finally:
                with anyio.CancelScope(shield=True):
                    await session.aclose()

    return await attend(request, work)


async def attend(request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
    """Return what `work` returns, or the reply to its failure.

    `work` is cancelled when the client goes away meanwhile.
    """
    response = Response(status_code=CLIENT_GONE)
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass  # what is left of the body
            tasks.cancel_scope.cancel()

        tasks.start_soon(watch)
        try:
            response = await work()
        except FAILURES as failure:
            response = _failed(failure)
        tasks.cancel_scope.cancel()
    return response


def _explained(failure: Failure) -> Response:
    """Return what went wrong in a session that goes on: its client decides by it."""
    detail = {"detail": str(failure), "cause": cause_of(failure)}
    return JSONResponse(detail, 500, {"envhub-cause": cause_of(failure)})


def _failed(failure: Failure) -> Response:
    headers = {"envhub-cause": cause_of(failure)}
    match failure:
        case InvalidAction(detail=detail):
            try:
                text = f'{{"detail":{json_array(detail)}}}'
            except RemoteProtocolError as breach:
                return _failed(breach)
            return Response(text, 422, headers, _JSON)
        case CapacityError():
            headers["retry-after"] = _RETRY_AFTER_S
            return JSONResponse({"detail": str(failure)}, 503, headers)
        case SchemaMismatch():
            return JSONResponse({"detail": str(failure)}, 409, headers)
    return PlainTextResponse("Internal Server Error", 500, headers)
