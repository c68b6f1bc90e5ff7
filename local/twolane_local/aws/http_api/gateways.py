"""The HTTP servers of a stack: one for each API and function URL, each on a port of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.aws.http_api.api import Gateway
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.template.routes import is_websocket

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.invocation import Invoker
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import RouteSpec, Stack
    from twolane_local.template import Template

_KINDS = frozenset({"AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi", "AWS::Lambda::Url"})


class Gateways:
    """Ports are given out before the stack is built: its outputs name them.

    The first API of the template gets ``port``, the others those that follow; 0 is any free one.
    """

    def __init__(self, port: int, *, enabled: bool) -> None:
        self._port = port
        self._enabled = enabled
        self._listeners: dict[str, socket.socket] = {}
        self._servers: dict[str, tuple[Gateway, HttpServer]] = {}

    def reserve(self, template: Template) -> None:
        """Bind a port for each API that has none yet; raises ``PortInUseError``."""
        if not self._enabled:
            return
        for name, resource in template.resources.items():
            if resource["Type"] not in _KINDS or is_websocket(resource):
                continue
            if name.lower() not in self._listeners:
                port = self._port + len(self._listeners) if self._port else 0
                self._listeners[name.lower()] = bind(port, "--port")

    def base_url(self, api: str) -> str:
        """Where an API is or, where none is served, where it would be."""
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
        """Serve the stack's routes; requests under way are not disturbed."""
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
