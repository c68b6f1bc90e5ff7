"""The result store of a run: a Redis in this process, with faults, and watched.

What is sent on a connection goes to fakeredis, scripts included, so the runtime's and Celery's own
Redis code runs unchanged above it.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import fakeredis
import redis

from twolane.worker.lease import PREFIX as LEASE
from twolane.worker.lease import read_lease
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.host import Host

RESULT = "celery-task-meta-"
#: Commands that change nothing; looking after them would cost more than they do.
_READS = frozenset({"GET", "MGET", "EXISTS", "TTL", "PTTL", "SUBSCRIBE", "UNSUBSCRIBE"})
#: What a new connection begins with, while redis-py holds its pool's lock: no place to wait in.
_OPENING = frozenset({"HELLO", "CLIENT", "SELECT", "AUTH", "PING"})
#: Keys among the words of packed commands: https://redis.io/docs/latest/develop/reference/protocol-spec/
_KEYS = re.compile(rb"\r\n((?:twolane:lease:|celery-task-meta-)[^\r\n]*)\r\n")
_WORD = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")


class Connection(fakeredis.FakeRedisConnection):
    """One connection of a run's client; a command is carried out as it is sent."""

    store: Store

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        send: Any = super().send_packed_command
        packed = command if isinstance(command, bytes) else b"".join(command)
        return self.store.call(packed, lambda: send(command, check_health))


class Store:
    """Watches what changes under the keys that the invariants are about."""

    def __init__(self, world: Host) -> None:
        server = fakeredis.FakeServer()
        # Celery unsubscribes wherever a result is collected, which may be inside of a command.
        vars(server)["lock"] = threading.RLock()
        pool = redis.ConnectionPool(host="simulated")
        pool.connection_class = type("RunConnection", (Connection,), {"store": self})
        pool.connection_kwargs["server"] = server
        self.client = redis.Redis(connection_pool=pool)
        self._plain: Any = fakeredis.FakeStrictRedis(server=server)
        self._world = world
        self._known: dict[str, bytes | None] = {}

    def call(self, packed: bytes, send: Callable[[], Any]) -> Any:
        """One command, or several at once, with whatever goes wrong about it."""
        process = current.get()
        if process is None or _on(self._world.loop):
            return send()
        process.check()
        word = _word(packed)
        if word in _OPENING:
            return send()
        keys = list(dict.fromkeys(key.decode() for key in _KEYS.findall(packed)))
        target = f"{word} {keys[0] if keys else ''}"
        keys = [] if word in _READS else keys
        lost: list[tuple[str, bytes | None]] = []
        for fault in self._world.faults.at("store", target):
            match fault.fault.name:
                case "store.down":
                    raise redis.ConnectionError("Error 111 connecting: Connection refused.")
                case _:  # store.slow
                    process.sleep(float(fault.value("seconds")))
        if keys and self._world.faults.at("store.write", target):
            lost = [(key, self._plain.get(key)) for key in keys]
        answer = send()
        for key, before in lost:
            self._lose(key, before)
        for key in keys:
            self._look(key)
        if self._world.faults.at("store.done", target):
            raise redis.TimeoutError("Timeout reading from socket")
        return answer

    def _lose(self, key: str, before: bytes | None) -> None:
        if before is None:
            self._plain.delete(key)
        else:
            self._plain.set(key, before)
        self._world.note("write.lost", task=task_of(key), key=key)

    def _look(self, key: str) -> None:
        value = self._plain.get(key)
        if value == self._known.get(key):
            return
        self._known[key] = value
        if key.startswith(LEASE):
            self._world.lease_changed(key, read_lease(value.decode() if value else None))
        else:
            status = json.loads(value)["status"] if value else None
            self._world.result_changed(key.removeprefix(RESULT), status)


def _word(packed: bytes) -> str:
    """The first command's name."""
    found = _WORD.match(packed)
    return found[1].decode().upper() if found else ""


def _on(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether this is the loop's own thread, which must not wait."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def task_of(key: str) -> str:
    """The task that a lease or a result is of."""
    bare = key.removeprefix(LEASE).removeprefix(RESULT)
    return bare.partition("<")[0].partition(":")[0]
