"""The embedded Redis of a test: no socket, and keys that expire in virtual time."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: A name that no resolver knows: what is not answered here is not answered at all.
HOST = "store.twolane.invalid"
URL = f"redis://{HOST}:6379/0"


@cache
def server() -> Any:
    """One for the process: connections that an application keeps stay good for the next test."""
    from fakeredis import FakeServer

    made = FakeServer(version=(7, 4), server_type="redis")
    # Garbage collection may end an AsyncResult in the middle of a command, which unsubscribes.
    made.lock = threading.RLock()  # type: ignore[assignment]
    return made


@cache
def _connection() -> type[Any]:
    from fakeredis import FakeRedisConnection

    class Connection(FakeRedisConnection):
        def send_packed_command(self, *args: Any, **options: Any) -> Any:
            process = current.get()
            if process is not None:
                process.check()
            return super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call]

    return Connection


@contextmanager
def embedded() -> Iterator[None]:
    """redis-py's connections to ``HOST`` lead to an empty embedded server inside of the block."""
    import redis

    def instead(get: Callable[..., Any]) -> Callable[..., Any]:
        def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            ours = pool.connection_kwargs.get("host") == HOST
            if ours and pool.connection_kwargs.get("server") is not server():
                # A pool that was used before may hold connections of the other kind.
                pool.connection_class = _connection()
                pool.connection_kwargs["server"] = server()
                pool.reset()
            return get(pool, *args, **options)

        return get_connection

    with ExitStack() as undo:
        for pool in (redis.ConnectionPool, redis.BlockingConnectionPool):
            get = instead(pool.get_connection)
            undo.enter_context(mock.patch.object(pool, "get_connection", get))
        clear()
        yield


def clear() -> None:
    """Forget everything."""
    with server().lock:
        for database in server().dbs.values():
            database.clear()
