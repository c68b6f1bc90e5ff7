"""Starts environments by fork: one fork server for each function, started with its first one.

A function with SnapStart has a snapshot in its place: see ``snapshot``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from twolane_local.environments.fork_control import ForkServer
from twolane_local.environments.process import Hear, Launch, Launcher, Process, SpawnLauncher
from twolane_local.environments.snapshot_launcher import INITIALIZATION, SNAP_START, Snapshot

_API = "AWS_LAMBDA_RUNTIME_API"


class ForkLauncher:
    """Implements ``Launcher``. Falls back to fresh interpreters where forking is not safe."""

    def __init__(self) -> None:
        self._servers: dict[Any, ForkServer] = {}
        self._snapshots: dict[Any, asyncio.Task[Snapshot]] = {}
        self._retired: list[ForkServer] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        shared = {name: value for name, value in what.environ.items() if name != _API}
        key = (what.handler, what.directory, tuple(sorted(shared.items())))
        if shared.get(INITIALIZATION) == SNAP_START:
            return await self._restore(key, what, shared, hear)
        server = self._servers.get(key)
        if server is None or server.closed:
            server = self._servers[key] = ForkServer(what, shared)
        if not await asyncio.shield(server.ready):
            return await self._spawn.launch(what, hear)
        return await server.launch(what.environ[_API], what.channel, hear)

    async def _restore(self, key: Any, what: Launch, shared: dict[str, str], hear: Hear) -> Process:
        while True:
            taking = self._snapshots.get(key)
            if taking is None or (taking.done() and taking.result().closed):
                taking = asyncio.ensure_future(Snapshot.take(what, shared, hear))
                self._snapshots[key] = taking
            snapshot = await asyncio.shield(taking)
            process = await snapshot.restore(what, hear)
            if process is not None:
                return process

    def forget(self) -> None:
        """Code has changed: what comes next imports it anew; what runs is not disturbed."""
        snapshots = [taking.result() for taking in self._snapshots.values() if taking.done()]
        for server in (*self._servers.values(), *snapshots):
            server.retire()
            self._retired.append(server)
        self._servers.clear()
        self._snapshots.clear()

    async def close(self) -> None:
        snapshots = await asyncio.gather(*self._snapshots.values())
        for server in (*self._servers.values(), *snapshots, *self._retired):
            server.close()


def launcher(*, fresh: bool) -> Launcher:
    """The launcher for this platform; ``fresh`` starts each environment as AWS does, from nothing.

    Forking needs Linux: elsewhere system libraries do not survive it.
    """
    if fresh or sys.platform != "linux":
        return SpawnLauncher(stock=fresh)
    return ForkLauncher()
