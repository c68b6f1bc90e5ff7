"""The console's server: pages and control API on one loopback port of the emulator's.

``attach`` gives the routes the emulator's public parts.
"""

from __future__ import annotations

import asyncio
import hmac
import html
import json
import os
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws import guard
from twolane_local.aws.lambda_.unrunnable import init_failure
from twolane_local.console.application import Application
from twolane_local.http import access
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.journal.files import KeptJournal
from twolane_local.remote import emulator as address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.aws.event_source_mapping import EventSourceMappings
    from twolane_local.aws.lambda_.functions import Functions
    from twolane_local.aws.scheduler.schedule import ScheduleBook
    from twolane_local.aws.scheduler.targets import Invocations
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.faults.injection import Faults
    from twolane_local.http.servers import Asgi, Receive, Scope, Send
    from twolane_local.journal import Journal
    from twolane_local.model import Addresses, FunctionSpec, Options, Stack


#: Nothing from elsewhere, nothing inline, in nobody's frame.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
TOKEN_HEADER = b"x-twolane-token"
#: Other ports are other origins.
_DOOR = access.Door(own=True)
#: The largest change, in bytes: a message of SQS's limit, and what JSON adds to it.
MAX_BODY = 4 << 20


class Shield:
    """An ASGI app in front of the console's; ``token`` is of this start."""

    def __init__(self, app: Asgi, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        headers = dict(scope["headers"])
        refused = refusal(scope["method"], headers, scope["headers"], self._token)
        if refused is None:
            await self._app(scope, receive, guarded)
            return
        await _refuse(guarded, *refused)


def refusal(
    method: str,
    headers: Mapping[bytes, bytes],
    pairs: list[tuple[bytes, bytes]],
    token: bytes,
) -> tuple[int, str] | None:
    """Status and reason for what is not answered, or ``None``."""
    caller = access.caller_of(pairs)
    if caller is None:
        return 400, "a request has exactly one Host header"
    why = _DOOR.refusal(method, caller)
    if why is not None:
        return 403, f"Forbidden: {why}"
    return None if method in ("GET", "HEAD") else _bad_change(headers, token)


def _bad_change(headers: Mapping[bytes, bytes], token: bytes) -> tuple[int, str] | None:
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        return 415, "a change needs Content-Type: application/json"
    if not hmac.compare_digest(headers.get(TOKEN_HEADER, b""), token):
        return 401, "a change needs this start's token in X-Twolane-Token; reload the page"
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        return 411, "a change needs a Content-Length"
    return None if int(length) <= MAX_BODY else (413, f"a change has at most {MAX_BODY} bytes")


async def _refuse(send: Send, status: int, detail: str) -> None:
    import http

    body = json.dumps(
        {
            "type": "about:blank", "title": http.HTTPStatus(status).phrase, "status": status,
            "detail": detail,
        }
    ).encode()  # fmt: skip
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


STATIC = Path(__file__).with_name("static")
FLAG = "--console-port"


class Console:
    """Serves until ``stop``. Nothing of Starlette is imported before the first request."""

    def __init__(
        self, parts: Parts, *, port: int, where: Path | None = None, keep: Path | None = None
    ) -> None:
        """Raises ``PortInUseError``. ``where`` is the folder of the address file, ``keep`` that of
        the journal on disk.
        """
        self.parts = parts
        self.token = secrets.token_urlsafe(32)
        self._listener = bind(port, FLAG)
        self.url = url_of(self._listener)
        self._where = where or address.folder()
        self._keep = keep
        self._closing = asyncio.Event()
        self._app: Starlette | None = None
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Accept connections, and say where by the address file."""
        if self._keep is not None:
            kept = KeptJournal(self.parts.journal, self._keep)
            kept.start()
            self._stack.push_async_callback(kept.close)
        about = self.parts.describe()
        running = address.Running(
            os.getpid(), self.url, self.token, str(about["stack"]), str(about["template"]),
            self.parts.clock.time(),
        )  # fmt: skip
        server = HttpServer(Shield(self._serve, self.token), self._listener)
        await server.start()
        self._stack.push_async_callback(self.parts.application.close)
        self._stack.push_async_callback(server.stop)
        self._stack.enter_context(address.announced(running, self._where))

    async def stop(self) -> None:
        """End the streams, the server and the application's process."""
        self._closing.set()
        await self._stack.aclose()
        self._listener.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = application(self.parts, self.token, self._closing)
        await self._app(scope, receive, send)


def application(parts: Parts, token: str, closing: asyncio.Event) -> Starlette:
    """The pages and the routes, without the shield in front."""
    from starlette.applications import Starlette
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    from twolane.errors import TwolaneError
    from twolane_local.console import requests
    from twolane_local.console.function_routes import FunctionRoutes
    from twolane_local.console.journal_routes import JournalRoutes
    from twolane_local.console.queue_routes import QueueRoutes
    from twolane_local.console.schedule_routes import ScheduleRoutes
    from twolane_local.console.task_routes import TaskRoutes
    from twolane_local.console.time_routes import TimeRoutes, clock_state

    async def status(_: Request) -> Response:
        journal = parts.journal
        held = next(iter(journal), None)
        return requests.Json(
            {
                **parts.describe(),
                "now": parts.clock.time(),
                "journal": {
                    "first": held.seq if held is not None else 0,
                    "last": journal.last,
                    "size": len(journal),
                    "limit": journal.size,
                    "bytes": journal.bytes,
                    "bytesLimit": journal.limit,
                },
                "clock": clock_state(parts),
            }
        )

    routes: list[Any] = [
        Route("/status", status),
        *JournalRoutes(parts, closing).routes,
        *QueueRoutes(parts).routes,
        *FunctionRoutes(parts).routes,
        *TaskRoutes(parts).routes,
        *ScheduleRoutes(parts).routes,
        *TimeRoutes(parts).routes,
    ]
    return Starlette(
        routes=[
            Mount("/api", routes=routes),
            Mount("/static", app=StaticFiles(directory=STATIC)),
            Route("/{page:path}", _page(token)),
        ],
        exception_handlers={
            404: requests.not_found,
            405: requests.wrong_method,
            TwolaneError: requests.answered,
            LookupError: requests.answered,
        },
    )


def _page(token: str) -> Any:
    """The one page; its address tells what it shows."""
    from starlette.responses import HTMLResponse

    text = (STATIC / "index.html").read_text("utf-8")
    content = text.replace("{{token}}", html.escape(token, quote=True))

    async def page(_: Request) -> Response:
        return HTMLResponse(content, headers={"cache-control": "no-store"})

    return page


@dataclass(frozen=True)
class Parts:
    """``describe`` returns the ``description``; without ``faults`` none can be injected."""

    journal: Journal
    clock: Clock
    queues: QueueService
    mappings: EventSourceMappings
    functions: Functions
    book: ScheduleBook
    invocations: Invocations
    application: Application
    describe: Callable[[], Mapping[str, Any]]
    faults: Faults | None = None


class ConsoleEmulator(Protocol):
    """The attributes of ``Emulator`` that the console reads; the emulator's package is above."""

    options: Options
    aws_url: str
    stack: Stack
    journal: Journal
    clock: Clock
    mappings: EventSourceMappings
    functions: Functions
    book: ScheduleBook
    faults: Faults

    @property
    def addresses(self) -> Addresses: ...

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def queues(self) -> QueueService: ...

    @property
    def invocations(self) -> Invocations: ...


def attach(emulator: ConsoleEmulator) -> Console:
    """Return the console of a started emulator, which starts and stops it."""
    parts = Parts(
        journal=emulator.journal,
        clock=emulator.clock,
        queues=emulator.queues,
        mappings=emulator.mappings,
        functions=emulator.functions,
        book=emulator.book,
        invocations=emulator.invocations,
        application=Application(
            lambda: likeliest(emulator),
            lambda spec: guard.function_environment(
                spec,
                endpoint_url=emulator.aws_url,
                allow_real_aws=emulator.options.allow_real_aws,
            ),
        ),
        describe=lambda: description(emulator),
        faults=emulator.faults,
    )
    options = emulator.options
    return Console(parts, port=options.console_port, keep=options.persist)


def likeliest(emulator: ConsoleEmulator) -> list[FunctionSpec]:
    """Return the functions whose modules may have the Celery app, those that read a queue first."""
    readers = {mapping.function for mapping in emulator.stack.mappings}
    found = [spec for spec in emulator.stack.functions if init_failure(spec) is None]
    return sorted(found, key=lambda spec: spec.name not in readers)


def description(emulator: ConsoleEmulator) -> Mapping[str, Any]:
    """Return the emulator's part of ``GET /api/status``: stack, template, addresses, notes."""
    options, addresses = emulator.options, emulator.addresses
    return {
        "stack": emulator.stack.name,
        "template": str(options.template.resolve()),
        "mode": "in-process" if options.in_process else "isolated",
        "addresses": {
            "apis": dict(addresses.apis),
            "aws": addresses.aws,
            "store": addresses.store,
            "queues": dict(addresses.queues),
        },
        "notes": list(emulator.notes),
    }
