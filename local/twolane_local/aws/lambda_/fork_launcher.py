"""Starts environments by fork, from fork servers that are started with the first of them.

One serves all functions of a folder for which it would have imported the same: see ``forkserver``.
"16 cold environments serving" in ``benchmarks/emulator.py`` takes 0.4 s so, and 2.8 s with a fresh
interpreter for each.

A function with SnapStart has a snapshot in its place: see ``snapshot``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.fork_control import _API, ForkServer, NotServedError
from twolane_local.aws.lambda_.process import (
    Hear,
    Launch,
    Launcher,
    Process,
    SpawnLauncher,
)
from twolane_local.aws.lambda_.snapshot_launcher import INITIALIZATION, SNAP_START, Snapshot

if TYPE_CHECKING:
    from pathlib import Path


class ForkLauncher:
    """Implements ``Launcher``. Falls back to fresh interpreters where forking is not safe."""

    def __init__(self) -> None:
        self._servers: dict[tuple[Path, Path | None], list[ForkServer]] = {}
        self._snapshots: dict[Any, asyncio.Task[Snapshot]] = {}
        self._taken: list[asyncio.Task[Snapshot]] = []
        self._retired: list[ForkServer] = []
        self._spawn = SpawnLauncher()

    async def launch(self, what: Launch, hear: Hear) -> Process:
        if what.program is not None:
            return await self._spawn.launch(what, hear)
        shared = {name: value for name, value in what.environ.items() if name != _API}
        if shared.get(INITIALIZATION) == SNAP_START:
            key = (what.handler, what.directory, what.python, tuple(sorted(shared.items())))
            return await self._restore(key, what, shared, hear)
        while True:
            server = self._server_for(what, shared)
            if not await asyncio.shield(server.ready):
                return await self._spawn.launch(what, hear)
            if server.closed:  # it was idle a moment ago
                continue
            try:
                return await server.launch(what, what.environ, hear)
            except NotServedError:
                continue

    def _server_for(self, what: Launch, shared: dict[str, str]) -> ForkServer:
        place = (what.directory, what.python)
        servers = self._servers.get(place, ())
        open_ones = self._servers[place] = [each for each in servers if not each.closed]
        for server in open_ones:
            if server.may_serve(what):
                return server
        open_ones.append(ForkServer(what, shared))
        return open_ones[-1]

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
        for folder, servers in self._servers.items():
            for server in servers:
                server.rest()
            self._servers[folder] = [server for server in servers if not server.closed]

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
