"""The result store of a run: a Redis in this process, with faults, and watched.

What is sent on a connection goes to fakeredis, scripts included, so the runtime's and Celery's own
Redis code runs unchanged above it.
"""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import fakeredis
import redis

from twolane.worker.lease import PREFIX as LEASE
from twolane.worker.lease import read_lease
from twolane.worker.redis_backend import RedisBackend
from twolane_local.faults.commands import FaultyCommands, break_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.simulator.host import Host

RESULT = "celery-task-meta-"


class Connection(fakeredis.FakeRedisConnection):
    """One connection of a run's client; a command is carried out as it is sent."""

    store: Store

    def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
        send: Any = super().send_packed_command
        packed = command if isinstance(command, bytes) else b"".join(command)
        try:
            return self.store.call(packed, lambda: send(command, check_health))
        except (redis.ConnectionError, redis.TimeoutError) as error:
            break_down(self, lambda: send(command, False), error)
        except BaseException:
            me: Any = self
            me.disconnect()  # nobody shall read what was not answered
            raise


class Pool(redis.ConnectionPool):
    """One run's, in which one thing happens at a time: no lock, and no statistics of each use."""

    def get_connection(self, *_: object, **__: object) -> Any:
        connection = (
            self._available_connections.pop()
            if self._available_connections
            else self.make_connection()
        )
        self._in_use_connections.add(connection)
        try:
            connection.connect()
            if connection.can_read():  # of a command that was cut off before its answer
                connection.disconnect()
                connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        if connection in self._in_use_connections:
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)


class Store:
    """Watches what changes under the keys that the invariants are about."""

    def __init__(self, world: Host) -> None:
        server = fakeredis.FakeServer()
        # Celery unsubscribes wherever a result is collected, which may be inside of a command.
        vars(server)["lock"] = threading.RLock()
        pool = Pool(host="simulated")
        pool.connection_class = type("RunConnection", (Connection,), {"store": self})
        pool.connection_kwargs["server"] = server
        self.client = redis.Redis(connection_pool=pool)
        self._plain: Any = fakeredis.FakeStrictRedis(server=server)
        self._world = world
        self._known: dict[str, bytes | None] = {}
        self._commands = FaultyCommands(
            world.faults, self._plain, changed=self._look, lost=self._lost, done=world.called
        )

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """Celery's client and ours are this run's."""
        yield RedisBackend, "_create_client", lambda *_, **__: self.client

    def result(self, task: str) -> dict[str, Any] | None:
        """What is stored of a task, as Celery stores it."""
        value = self._plain.get(RESULT + task)
        found: dict[str, Any] | None = json.loads(value) if value else None
        return found

    def call(self, packed: bytes, send: Callable[[], Any]) -> Any:
        """One command, or several at once, with whatever goes wrong about it."""
        return self._commands.call(packed, send)

    def _lost(self, key: str) -> None:
        self._world.note("write.lost", task=task_of(key), key=key)

    def _look(self, key: str) -> None:
        value = self._plain.get(key)
        if value == self._known.get(key):
            return
        self._known[key] = value
        if key.startswith(LEASE):
            self._world.lease_changed(key, read_lease(value.decode() if value else None))
        else:
            self._world.result_changed(key.removeprefix(RESULT), json.loads(value or "null"))


def task_of(key: str) -> str:
    """The task that a lease or a result is of."""
    bare = key.removeprefix(LEASE).removeprefix(RESULT)
    return bare.partition("<")[0].partition(":")[0]
