"""The embedded Redis of a test: no socket, and keys that expire in virtual time."""

from __future__ import annotations

from contextlib import contextmanager
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

    return FakeServer(version=(7, 4), server_type="redis")


@contextmanager
def embedded() -> Iterator[None]:
    """redis-py's connections to ``HOST`` lead to an empty embedded server inside of the block."""
    import redis
    from fakeredis import FakeRedisConnection

    class Connection(FakeRedisConnection):
        def send_packed_command(self, *args: Any, **options: Any) -> Any:
            process = current.get()
            if process is not None:
                process.check()
            return super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call]

    def instead(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def make_connection(pool: Any) -> Any:
            if pool.connection_kwargs.get("host") == HOST:
                pool.connection_class = Connection
                pool.connection_kwargs["server"] = server()
            return make(pool)

        return make_connection

    with (
        mock.patch.object(
            redis.ConnectionPool, "make_connection", instead(redis.ConnectionPool.make_connection)
        ),
        mock.patch.object(
            redis.BlockingConnectionPool,
            "make_connection",
            instead(redis.BlockingConnectionPool.make_connection),
        ),
    ):
        clear()
        yield


def clear() -> None:
    """Forget everything."""
    with server().lock:
        for database in server().dbs.values():
            database.clear()
