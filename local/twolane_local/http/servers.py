"""HTTP servers on loopback, inside a loop that somebody else runs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

from twolane_local.errors import PortInUseError
from twolane_local.http.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"


def bind(port: int, flag: str) -> socket.socket:
    """A listening socket on loopback; 0 takes any free port.

    Raises ``PortInUseError`` naming ``flag``, by which the user can choose another.
    """
    # asyncio sends without delay only on sockets that say that they are TCP's.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} is in use; stop what holds it (`ss -ltnp 'sport = :{port}'`), or "
                f"choose another with {flag}"
            ) from error
        if error.errno == errno.EACCES:
            raise PortInUseError(
                f"port {port} needs more rights than this process has; choose one above 1023 "
                f"with {flag}"
            ) from error
        raise
    return listener


def url_of(listener: socket.socket) -> str:
    """The address that a listening socket answers at."""
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stopped = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command's: it stops all servers, not each one itself."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end; uvicorn's own wakes ten times a second, for the Date header alone."""
        await self.stopped.wait()


class HttpServer:
    """One ASGI app on one socket."""

    def __init__(self, app: Any, listener: socket.socket) -> None:
        self.port = int(listener.getsockname()[1])
        self._listener = listener
        self._server = _Server(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,  # nobody stands between the client and us
                timeout_graceful_shutdown=1,
                timeout_keep_alive=75,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns once it accepts connections."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            if self._task.done():
                self._task.result()
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Finish what is under way, for a second at most."""
        self._server.should_exit = True
        self._server.stopped.set()
        if self._task is not None:
            await self._task
        self._listener.close()
