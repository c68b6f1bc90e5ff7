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
        self._taken: list[asyncio.Task[Snapshot]] = []
        self._retired: list[ForkServer] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        shared = {name: value for name, value in what.environ.items() if name != _API}
        key = (what.handler, what.directory, what.python, tuple(sorted(shared.items())))
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
        for server in self._servers.values():
            server.retire()
        for taking in self._snapshots.values():
            taking.add_done_callback(_retire)
        self._retired += self._servers.values()
        self._servers.clear()
        self._snapshots.clear()

    async def close(self) -> None:
        for server in (*self._servers.values(), *self._retired):
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
