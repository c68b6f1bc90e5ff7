"""``Idempotency-Key``: a request that comes twice enqueues once.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ ::

    router = APIRouter(route_class=idempotent_route(celery))

    @router.post("/notify/deferred", status_code=202)
    def notify_deferred(...): ...

The first request with a key runs, and its answer is kept; the same key with the same request gets
the same answer, so the same task, without running again. It is a route class and not a plain
dependency because only the route sees the answer that is to be repeated; the header itself is a
dependency of each such route, and so in its OpenAPI document.

The claim on a key outlives its request by ``CLAIM_S`` at most: where the environment dies between
enqueueing and keeping the answer, a retry after that enqueues again.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import uuid
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from fastapi import Depends, Header, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from twolane.environment.logs import emit
from twolane.errors import StoreUnavailableError
from twolane.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from celery import Celery

    from twolane.state.store import StateStore

logger = logging.getLogger("twolane.http")

#: How long a request may run before another with its key may; beyond API Gateway's 29 s.
CLAIM_S = 60.0
#: How long an answer is repeated.
KEEP_S = 86_400.0
#: DynamoDB takes 400 kB an item.
MAX_BODY = 200_000

_KEY = r"^[ -~]{1,255}$"

_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The Idempotency-Key is missing where it is required, or is none"},
    409: {"description": "A request with this Idempotency-Key is still running"},
}
_NOT_KEPT = frozenset({"content-length", "date", "set-cookie"})


class Ticket(NamedTuple):
    """One request with a key: where its answer is kept, and what it must be the same as."""

    name: str
    fingerprint: str


def owner_of(request: Request) -> str:
    """Whose key it is, so that nobody meets another's answers: the credentials as they came."""
    return request.headers.get("authorization") or request.headers.get("x-api-key") or ""


def idempotent_route(
    celery: Celery,
    *,
    store: StateStore | None = None,
    required: bool = False,
    owner: Callable[[Request], str] = owner_of,
) -> type[APIRoute]:
    """A route class that honours ``Idempotency-Key`` on POST and PATCH.

    Keys are kept in the state store of ``celery`` (or ``store``), apart for each ``owner``. A key
    with another request is 422, one whose request still runs 409, none where it is ``required``
    400, and a store that does not answer 503: without it a promise of once cannot be made. Answers
    of 500 and above, and errors that are raised, are not kept: the same key may try again.
    """
    keys = _Keys(celery, store)

    class IdempotentRoute(APIRoute):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            if {"POST", "PATCH"} & set(kwargs.get("methods") or ()):
                kwargs["dependencies"] = [*(kwargs.get("dependencies") or ()), Depends(_header)]
                kwargs["responses"] = {**_RESPONSES, **(kwargs.get("responses") or {})}
            super().__init__(*args, **kwargs)

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            run = super().get_route_handler()

            async def handle(request: Request) -> Response:
                if request.method not in {"POST", "PATCH"}:
                    return await run(request)
                key = request.headers.get("idempotency-key")
                if key is None:
                    if required:
                        raise Problem(400, "This request needs an Idempotency-Key header.")
                    return await run(request)
                return await _once(request, run, keys, await _ticket(request, key, owner))

            return handle

    return IdempotentRoute


async def _header(
    idempotency_key: Annotated[  # noqa: ARG001 - the route reads it; here it is documented
        str | None,
        Header(
            description="Any unique text. Repeating a request with its key repeats its answer.",
            pattern=_KEY,
        ),
    ] = None,
) -> None:
    return None


async def _ticket(request: Request, key: str, owner: Callable[[Request], str]) -> Ticket:
    if not re.match(_KEY, key):
        raise Problem(400, "An Idempotency-Key has 1 to 255 printable ASCII characters.")
    place = [owner(request), request.method, request.url.path, key]
    name = hashlib.sha256(json.dumps(place).encode()).hexdigest()
    said = [request.url.query, request.headers.get("content-type", "")]
    fingerprint = hashlib.sha256(json.dumps(said).encode() + await request.body()).hexdigest()
    return Ticket(f"twolane:idempotency:{name}", fingerprint)


async def _once(
    request: Request,
    run: Callable[[Request], Coroutine[Any, Any, Response]],
    keys: _Keys,
    ticket: Ticket,
) -> Response:
    # Unique, so that a request that outlived its claim cannot take away the next one's.
    claim = json.dumps({"fingerprint": ticket.fingerprint, "claim": uuid.uuid4().hex})
    stood = await run_in_threadpool(keys.claim, ticket, claim)
    if stood is not None:
        record: dict[str, Any] = json.loads(stood) if stood else {"fingerprint": ticket.fingerprint}
        if record["fingerprint"] != ticket.fingerprint:
            raise Problem(422, "This Idempotency-Key was used for another request.")
        if "status" not in record:
            detail = "A request with this Idempotency-Key is still running."
            raise Problem(409, detail, headers={"retry-after": "1"})
        response = Response(base64.b64decode(record["body"]), record["status"])
        response.headers.update(record["headers"])
        response.headers["idempotency-replayed"] = "true"
        return response
    try:
        response = await run(request)
    except BaseException:
        await run_in_threadpool(keys.release, ticket, claim)
        raise
    kept = _kept(ticket, response)
    if kept is None:
        await run_in_threadpool(keys.release, ticket, claim)
    else:
        await run_in_threadpool(keys.keep, ticket, claim, kept)
    return response


def _kept(ticket: Ticket, response: Response) -> str | None:
    """The answer as it is stored; ``None`` for one that cannot or must not be repeated."""
    body = getattr(response, "body", None)
    if response.status_code >= 500 or not isinstance(body, bytes) or len(body) > MAX_BODY:
        return None
    headers = {name: text for name, text in response.headers.items() if name not in _NOT_KEPT}
    return json.dumps(
        {
            "fingerprint": ticket.fingerprint,
            "status": response.status_code,
            "headers": headers,
            "body": base64.b64encode(body).decode(),
        }
    )


class _Keys:
    """The state store's side of it."""

    def __init__(self, celery: Celery, store: StateStore | None) -> None:
        self._celery = celery
        self._opened = store

    @property
    def _store(self) -> StateStore:
        if self._opened is None:
            from twolane.state import open_store

            self._opened = open_store(self._celery)
        return self._opened

    def claim(self, ticket: Ticket, claim: str) -> str | None:
        """``None`` if the key is now ours, else what stands there."""
        return self._store.swap(ticket.name, None, claim, ttl_s=CLAIM_S)

    def release(self, ticket: Ticket, claim: str) -> None:
        self._tell_only(lambda: self._store.delete(ticket.name, expected=claim), ticket)

    def keep(self, ticket: Ticket, claim: str, kept: str) -> None:
        self._tell_only(lambda: self._store.swap(ticket.name, claim, kept, ttl_s=KEEP_S), ticket)

    @staticmethod
    def _tell_only(change: Callable[[], object], ticket: Ticket) -> None:
        """The work is done and must be answered for, whether or not the store takes note."""
        try:
            change()
        except StoreUnavailableError as exc:
            emit(
                logger,
                "log",
                f"{ticket.name} was not updated; a retry with this key within {CLAIM_S:.0f} s is "
                "answered 409, after it the request runs again",
                level=logging.ERROR,
                exc_info=exc,
            )
