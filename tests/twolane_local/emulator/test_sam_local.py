from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from twolane_local.emulator import sam_local
from twolane_local.errors import PortInUseError
from twolane_local.model import Addresses, FunctionSpec

AWS = "http://127.0.0.1:4566"
FUNCTION = FunctionSpec(
    "stack-Api", "ApiFunction", "app.api.handler", Path(),
    environment={
        "TASK_QUEUE_URL": f"{AWS}/123456789012/tasks",
        "RESULT_BACKEND": "redis://:secret@localhost:6379/0",
        "BUCKET": "plain",
    },
)  # fmt: skip
needs_second_loopback = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 as its own"
)


def test_addresses_are_those_that_containers_see() -> None:
    assert sam_local.environment([FUNCTION], AWS) == {
        "ApiFunction": {
            "TASK_QUEUE_URL": "http://host.docker.internal:4566/123456789012/tasks",
            "RESULT_BACKEND": "redis://:secret@host.docker.internal:6379/0",
            "BUCKET": "plain",
            "AWS_ENDPOINT_URL": "http://host.docker.internal:4566",
        }
    }


def test_only_ports_of_loopback_are_opened() -> None:
    assert sam_local.ports_of(AWS, "redis://localhost:6380/0") == [4566, 6380]
    assert sam_local.ports_of("redis://redis.example.com:6379") == []


@pytest.mark.parametrize(
    ("ranges", "address"),
    [
        ([{"Subnet": "172.17.0.0/16", "Gateway": "172.17.0.9"}], "172.17.0.9"),
        ([{"Subnet": "172.17.0.0/16"}], "172.17.0.1"),
        ([{"Subnet": "fd00::/80", "Gateway": "fd00::1"}, {"Subnet": "10.1.0.0/24"}], "10.1.0.1"),
    ],
)
def test_the_bridge_as_docker_describes_it(ranges: list[dict[str, str]], address: str) -> None:
    assert sam_local.gateway(ranges) == address


def test_a_bridge_without_ipv4() -> None:
    with pytest.raises(sam_local.NoDockerError, match="IPv4"):
        sam_local.gateway([{"Subnet": "fd00::/80"}])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read()).upper())
    writer.close()


@needs_second_loopback
def test_what_is_sent_to_the_bridge_arrives_at_loopback() -> None:
    async def main() -> bytes:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with sam_local.reachable_at("127.0.0.2", [port]):
                reader, writer = await asyncio.open_connection("127.0.0.2", port)
                writer.write(b"x" * 200_000)
                writer.write_eof()
                answer = await reader.read()
                writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.2", port)
            return answer

    assert asyncio.run(main()) == b"X" * 200_000


@needs_second_loopback
def test_a_port_of_the_bridge_that_is_taken() -> None:
    async def main() -> None:
        async with await asyncio.start_server(echo, "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with sam_local.reachable_at("127.0.0.2", [port]):
                pass

    with pytest.raises(PortInUseError, match=r"of 127\.0\.0\.2 is in use"):
        asyncio.run(main())


def test_docker_desktop_needs_no_bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    file = tmp_path / "env.json"
    addresses = Addresses({}, AWS, "redis://127.0.0.1:1/0", "redis-server", {})

    async def main() -> None:
        async with sam_local.served(file, [FUNCTION], addresses):
            pass

    asyncio.run(main())
    assert json.loads(file.read_text()) == sam_local.environment([FUNCTION], AWS)


def test_no_docker_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sam_local.NoDockerError, match="docker info"):
        asyncio.run(sam_local.bridge_address())


def test_a_docker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "docker"
    fake.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(sam_local.NoDockerError, match="Cannot connect"):
        asyncio.run(sam_local.bridge_address())
