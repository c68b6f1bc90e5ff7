"""The HTTP servers of a stack: one for each API and function URL, each on its own port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.aws.http_api.api import Gateway
from twolane_local.http.servers import HttpServer, bind, url_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.invocation import Invoker
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import RouteSpec, Stack


class Gateways:
    """Reserves the ports before the stack is built, as its outputs contain them.

    The first API of the template gets ``port``, the others the following ones; 0 takes free ports.
    """

    def __init__(self, port: int, *, enabled: bool) -> None:
        self._port = port
        self._enabled = enabled
        self._listeners: dict[str, socket.socket] = {}
        self._servers: dict[str, tuple[Gateway, HttpServer]] = {}

    def reserve(self, apis: Iterable[str]) -> None:
        """Bind a port for each new API id; raises ``PortInUseError``."""
        if not self._enabled:
            return
        for api in apis:
            if api not in self._listeners:
                port = self._port + len(self._listeners) if self._port else 0
                self._listeners[api] = bind(port, "--port")

    def base_url(self, api: str) -> str:
        """The address of an API; of one that is not served, the address that it would have."""
        listener = self._listeners.get(api)
        return url_of(listener) if listener else f"http://127.0.0.1:{self._port}"

    def urls(self) -> dict[str, str]:
        """Addresses by API id."""
        return {api: url_of(listener) for api, listener in self._listeners.items()}

    async def apply(
        self,
        stack: Stack,
        invoker: Invoker,
        clock: Clock,
        journal: Journal,
        services: Mapping[str, AwsService],
    ) -> None:
        """Serve the stack's routes without disturbing requests under way."""
        for api, listener in self._listeners.items():
            routes: list[RouteSpec] = [route for route in stack.routes if route.api_id == api]
            if api in self._servers:
                self._servers[api][0].apply(routes)
                continue
            gateway = Gateway(routes, invoker, clock, journal, services=services)
            server = HttpServer(gateway, listener)
            self._servers[api] = (gateway, server)
            await server.start()

    async def stop(self) -> None:
        for _, server in self._servers.values():
            await server.stop()
        for listener in self._listeners.values():
            listener.close()
