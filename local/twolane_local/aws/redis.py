"""The Redis that functions use: a given server, a ``redis-server`` child, or an embedded one."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twolane_local.aws.lambda_ import parent_death
from twolane_local.aws.lambda_.process import when_gone
from twolane_local.errors import LocalError

_START_LIMIT_S = 10.0


class Store:
    """A running store, by its address. This class is for a Redis that the user runs."""

    kind = "given"

    def __init__(self, url: str) -> None:
        self.url = url

    async def ended(self) -> None:
        """Return if the store ends by itself; never returns for a server that the user runs."""
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """End the store, unless the user runs it."""


class RedisServer(Store):
    """A ``redis-server`` child process on a free loopback port."""

    kind = "redis-server"

    def __init__(self, url: str, process: subprocess.Popen[bytes], folder: Any) -> None:
        super().__init__(url)
        self._process = process
        self._folder = folder
        self._gone = asyncio.Event()
        when_gone(process.pid, process.wait, lambda _: self._gone.set())

    async def ended(self) -> None:
        await self._gone.wait()

    async def stop(self) -> None:
        self._process.terminate()
        try:
            async with asyncio.timeout(5):
                await self._gone.wait()
        except TimeoutError:
            self._process.kill()
            await self._gone.wait()
        if self._folder is not None:
            self._folder.cleanup()


class EmbeddedServer(Store):
    """A pure-Python Redis on a thread of this process, for machines without ``redis-server``."""

    kind = "embedded"

    def __init__(self, url: str, server: Any) -> None:
        super().__init__(url)
        self._server = server

    async def stop(self) -> None:
        await asyncio.to_thread(self._server.shutdown)
        self._server.server_close()


async def open_store(given: str | None, *, directory: Path | None = None) -> Store:
    """Open the first that exists: ``given``, a ``redis-server`` on the PATH, the embedded one.

    ``directory`` keeps a child's data over restarts; without it nothing is kept.
    """
    if given:
        await _check(given)
        return Store(given)
    program = shutil.which("redis-server")
    if program is not None:
        return await _redis_server(program, directory)
    return await asyncio.to_thread(_embedded)


async def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        shown = _without_password(url)
        raise LocalError(f"{shown} is not a Redis URL; write redis://HOST:PORT/DATABASE")
    try:
        async with asyncio.timeout(3):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port or 6379)
        writer.close()
    except OSError as error:
        raise LocalError(
            f"no Redis answers at {_without_password(url)} ({error.strerror or error}); start it, "
            "or leave --redis-url and REDIS_URL out and one is started for you"
        ) from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"


def free_port() -> int:
    """A loopback port that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _redis_server(program: str, directory: Path | None) -> RedisServer:
    folder = None if directory else tempfile.TemporaryDirectory(prefix="twolane-redis-")
    path = directory or Path(folder.name)  # type: ignore[union-attr]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Appended to disk before each answer under --persist: an acknowledged write is not lost.
    keep = ["--appendonly", "yes", "--appendfsync", "always"] if directory else ["--save", ""]
    for _ in range(3):  # another process may take the port first
        port = free_port()
        launcher = [sys.executable, "-I", "-S", parent_death.__file__, str(os.getpid())]
        server = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(path)]
        process = subprocess.Popen(  # noqa: ASYNC220 (returns after vfork and exec)
            [*launcher, *server, "--maxmemory-policy", "noeviction", *keep],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,
        )
        if await _listening(port, process):
            return RedisServer(f"redis://127.0.0.1:{port}/0", process, folder)
    raise LocalError(
        f"{program} does not start; run it by hand to see why, or give another with --redis-url"
    )


async def _listening(port: int, process: subprocess.Popen[bytes]) -> bool:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + _START_LIMIT_S
    while loop.time() < give_up and process.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.005)
            continue
        writer.close()
        return True
    process.kill()
    process.wait()
    return False


def _embedded() -> EmbeddedServer:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True  # a client that stays connected must not hold up the end
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, name="embedded-redis", daemon=True).start()
    return EmbeddedServer(f"redis://127.0.0.1:{port}/0", server)
