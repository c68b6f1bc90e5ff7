"""Makes the emulator reachable for functions in the containers of ``sam local``.

``sam local`` runs a function in Docker and has neither queues nor mappings. The function sends its
tasks to the emulator, whose mapping runs the worker. A container cannot reach this machine's
loopback. On Linux, a forwarder listens on Docker's bridge, which other machines cannot reach.
Docker Desktop maps ``host.docker.internal`` to loopback itself.
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/using-sam-cli-local-start-api.html
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twolane_local.errors import LocalError, PortInUseError

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from pathlib import Path

    from twolane_local.model import Addresses, FunctionSpec

#: This machine's name in containers that have ``--add-host host.docker.internal:host-gateway``.
HOST = "host.docker.internal"
_LOOPBACK = ("127.0.0.1", "localhost")
_CHUNK = 65_536


class NoDockerError(LocalError):
    """Docker does not return its bridge's address: start Docker (``docker info`` must work)."""


@contextlib.asynccontextmanager
async def served(
    file: Path, functions: Iterable[FunctionSpec], addresses: Addresses
) -> AsyncIterator[None]:
    """Let containers reach the emulator and its store, at the addresses that ``file`` holds."""
    ports = ports_of(addresses.aws, addresses.store)
    async with reachable_at(await bridge_address(), ports):
        text = json.dumps(environment(functions, addresses.aws), indent=2)
        await asyncio.to_thread(file.write_text, f"{text}\n")
        yield


def environment(functions: Iterable[FunctionSpec], aws_url: str) -> dict[str, dict[str, str]]:
    """Return ``{logical id: {variable: value}}`` for ``sam local … --env-vars FILE``, with this
    machine's name in containers for loopback. sam passes on only what the template declares.
    """
    return {
        spec.logical_id: {
            name: _seen_from_container(value)
            for name, value in {**spec.environment, "AWS_ENDPOINT_URL": aws_url}.items()
        }
        for spec in functions
    }


def _seen_from_container(value: str) -> str:
    for host in _LOOPBACK:
        value = value.replace(f"//{host}:", f"//{HOST}:").replace(f"@{host}:", f"@{HOST}:")
    return value


def ports_of(*urls: str) -> list[int]:
    """Return the ports of the addresses on loopback."""
    parts = [urlsplit(url) for url in urls]
    return [part.port for part in parts if part.hostname in _LOOPBACK and part.port]


async def bridge_address() -> str | None:
    """Return the address of Docker's bridge; ``None`` where containers do not need it."""
    if sys.platform != "linux":
        return None
    try:
        process = await asyncio.create_subprocess_exec(
            "docker", "network", "inspect", "bridge", "--format", "{{json .IPAM.Config}}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise NoDockerError from error
    output, errors = await process.communicate()
    if process.returncode:
        raise NoDockerError(f"{NoDockerError.__doc__} Its error: {errors.decode().strip()}")
    return gateway(json.loads(output))


def gateway(ranges: list[dict[str, str]]) -> str:
    """Return this machine's address on a Docker network, by default the first of its range:
    https://docs.docker.com/reference/cli/docker/network/create/
    """
    for each in ranges:
        network = ipaddress.ip_network(each["Subnet"])
        if network.version == 4:
            return each.get("Gateway") or str(network.network_address + 1)
    raise NoDockerError(
        "Docker's bridge has no IPv4 addresses; containers cannot reach this machine"
    )


@contextlib.asynccontextmanager
async def reachable_at(address: str | None, ports: Iterable[int]) -> AsyncIterator[None]:
    """Forward the ports at ``address`` to loopback's; ``PortInUseError`` or ``NoDockerError``."""
    async with contextlib.AsyncExitStack() as stack:
        for port in ports if address else ():
            try:
                server = await asyncio.start_server(_forwarder(port), address, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise PortInUseError(f"port {port} of {address} is in use") from error
                raise NoDockerError(f"{address}:{port} cannot be listened on: {error}") from error
            stack.callback(server.close)
        yield


def _forwarder(port: int) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
    async def forward(reader: StreamReader, writer: StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                upstream, downstream = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return  # the emulator is stopping: the caller's connection ends
            with contextlib.closing(downstream):
                await asyncio.gather(_copy(reader, downstream), _copy(upstream, writer))

    return forward


async def _copy(source: StreamReader, target: StreamWriter) -> None:
    """Copy until the source ends or breaks, then end the target."""
    with contextlib.suppress(ConnectionError):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
    if target.can_write_eof():
        with contextlib.suppress(OSError):
            target.write_eof()
