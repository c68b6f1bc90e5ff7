"""The console's server: pages and control API on one loopback port of the emulator's."""

from __future__ import annotations

import asyncio
import html
import os
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.console import address
from twolane_local.console.kept_journal import KeptJournal
from twolane_local.console.shield import Shield
from twolane_local.servers import HttpServer, bind, url_of

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.access import Receive, Scope, Send
    from twolane_local.console.parts import Parts

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

    from twolane.errors import TwolaneError
    from twolane_local.console import problems
    from twolane_local.console.function_routes import FunctionRoutes
    from twolane_local.console.journal_routes import JournalRoutes
    from twolane_local.console.queue_routes import QueueRoutes
    from twolane_local.console.schedule_routes import ScheduleRoutes
    from twolane_local.console.task_routes import TaskRoutes
    from twolane_local.console.time_routes import TimeRoutes, clock_state

    async def status(_: Request) -> Response:
        journal = parts.journal
        held = next(iter(journal), None)
        return problems.Json(
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
            Mount("/static", app=_static()),
            Route("/{page:path}", _page(token)),
        ],
        exception_handlers={
            404: problems.not_found,
            405: problems.wrong_method,
            TwolaneError: problems.answered,
            LookupError: problems.answered,
        },
    )


def _static() -> Any:
    from starlette.staticfiles import StaticFiles

    return StaticFiles(directory=STATIC)


def _page(token: str) -> Any:
    """The one page; its address tells what it shows."""
    from starlette.responses import HTMLResponse

    text = (STATIC / "index.html").read_text("utf-8")
    content = text.replace("{{token}}", html.escape(token, quote=True))

    async def page(_: Request) -> Response:
        return HTMLResponse(content, headers={"cache-control": "no-store"})

    return page
