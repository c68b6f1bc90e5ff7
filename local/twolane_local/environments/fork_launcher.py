"""Starts environments by fork, from fork servers that are started with the first of them.

One serves all functions of a folder that have the same variables and import the same libraries.

A function with SnapStart has a snapshot in its place: see ``snapshot``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twolane_local.environments.fork_control import ForkServer, NotServedError
from twolane_local.environments.process import Hear, Launch, Launcher, Process, SpawnLauncher
from twolane_local.environments.snapshot_launcher import INITIALIZATION, SNAP_START, Snapshot

_API = "AWS_LAMBDA_RUNTIME_API"
#: What is each function's own, and nothing that is shared reads at its import.
_OWN = (_API, "_HANDLER", "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_LOG_GROUP_NAME")  # fmt: skip


class ForkLauncher:
    """Implements ``Launcher``. Falls back to fresh interpreters where forking is not safe."""

    def __init__(self) -> None:
        self._servers: dict[Any, list[ForkServer]] = {}
        self._snapshots: dict[Any, asyncio.Task[Snapshot]] = {}
        self._taken: list[asyncio.Task[Snapshot]] = []
        self._retired: list[ForkServer] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        if what.environ.get(INITIALIZATION) == SNAP_START:
            own = {name: value for name, value in what.environ.items() if name != _API}
            key: Any = (what.handler, what.directory, what.python, tuple(sorted(own.items())))
            return await self._restore(key, what, own, hear)
        shared = {name: value for name, value in what.environ.items() if name not in _OWN}
        key = (what.directory, what.python, tuple(sorted(shared.items())))
        servers = self._servers[key] = [
            server for server in self._servers.get(key, ()) if not server.closed
        ]
        own = {name: what.environ[name] for name in _OWN if name in what.environ}
        for server in list(servers):
            # One that is not ready yet may serve others in the end: to wait for it costs more.
            if not server.serves(what.handler):
                continue
            if not await asyncio.shield(server.ready):
                return await self._spawn.launch(what, hear)
            try:
                return await server.launch(what, own, hear)
            except NotServedError:
                continue
        server = ForkServer(what, {**shared, **own})
        servers.append(server)
        if not await asyncio.shield(server.ready):
            return await self._spawn.launch(what, hear)
        return await server.launch(what, own, hear)

    async def _restore(self, key: Any, what: Launch, shared: dict[str, str], hear: Hear) -> Process:
        while True:
            taking = self._snapshots.get(key)
            if taking is None or _is_over(taking):
                taking = asyncio.ensure_future(Snapshot.take(what, shared, hear))
                self._snapshots[key] = taking
                self._taken.append(taking)
            snapshot = await asyncio.shield(taking)
            process = await snapshot.restore(what, hear)
            if process is not None:
                return process

    def forget(self) -> None:
        """Code has changed: what comes next imports it anew; what runs is not disturbed."""
        servers = [server for servers in self._servers.values() for server in servers]
        for server in servers:
            server.retire()
        for taking in self._snapshots.values():
            taking.add_done_callback(_retire)
        self._retired += servers
        self._servers.clear()
        self._snapshots.clear()

    def rest(self) -> None:
        for servers in self._servers.values():
            for server in servers:
                server.rest()

    async def close(self) -> None:
        for servers in (*self._servers.values(), self._retired):
            for server in servers:
                server.close()
        for taken in await asyncio.gather(*self._taken, return_exceptions=True):
            if isinstance(taken, Snapshot):
                taken.close()


def _is_over(taking: asyncio.Task[Snapshot]) -> bool:
    """Whether it came to nothing, or has been given up since."""
    return taking.done() and (taking.exception() is not None or taking.result().closed)


def _retire(taking: asyncio.Task[Snapshot]) -> None:
    if taking.exception() is None:
        taking.result().retire()


def launcher(*, fresh: bool) -> Launcher:
    """The launcher for this platform; ``fresh`` starts each environment as AWS does, from nothing.

    Forking needs Linux: elsewhere system libraries do not survive it.
    """
    if fresh or sys.platform != "linux":
        return SpawnLauncher(stock=fresh)
    return ForkLauncher()
