"""The embedded Redis of a test: no socket, and keys that expire in virtual time."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.faults.commands import FaultyCommands
    from twolane_local.faults.injection import Faults

#: A name that no resolver knows: what is not answered here is not answered at all.
HOST = "store.twolane.invalid"
URL = f"redis://{HOST}:6379/0"
#: The innermost stack's. Connections outlive the stack that they were made in.
_seams: list[FaultyCommands] = []


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
    import redis
    from fakeredis import FakeRedisConnection

    from twolane_local.faults.commands import break_down

    class Connection(FakeRedisConnection):
        def _connect(self) -> Any:
            made: Any = super()._connect()
            made.responses = queue.SimpleQueue()  # as what it has, without its locks
            return made

        def send_command(self, *args: Any, **options: Any) -> None:
            me: Any = self
            seam = _armed()
            made = me.get_socket()
            known = made._server  # noqa: SLF001 - it tells by itself of a connection that has ended
            if seam is not None or not known.connected or made._killed:  # noqa: SLF001 - likewise
                stock: Any = super().send_command
                stock(*args, **options)
                return
            # The server is at hand: it need not take apart what was packed for it.
            encode = me.encoder.encode
            fields = [*encode(args[0]).split(), *map(encode, args[1:])]
            try:
                made._process_command(fields)  # noqa: SLF001 - what its parser would call
            except BaseException:
                me.disconnect()  # nobody shall read what was not answered
                raise

        def send_packed_command(self, command: Any, check_health: bool = True) -> Any:
            send: Any = super().send_packed_command
            seam = _armed()
            if seam is None:
                return send(command, check_health)
            packed = command if isinstance(command, bytes) else b"".join(command)
            try:
                return seam.call(packed, lambda: send(command, check_health))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                break_down(self, lambda: send(command, False), error)
            except BaseException:
                me: Any = self
                me.disconnect()  # nobody shall read what was not answered
                raise

    return Connection


def _armed() -> FaultyCommands | None:
    """What goes wrong with a handler's commands, if anything does."""
    process = current.get()
    if process is None:
        return None
    process.check()
    return _seams[-1] if _seams and not _seams[-1].idle else None


@contextmanager
def embedded(faults: Faults) -> Iterator[None]:
    """redis-py's connections to ``HOST`` lead to an empty embedded server inside of the block, on
    which things go wrong as armed.
    """
    import redis
    from fakeredis import FakeStrictRedis

    from twolane_local.faults.commands import FaultyCommands

    seam = FaultyCommands(faults, FakeStrictRedis(server=server()))

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
        _seams.append(seam)
        undo.callback(_seams.remove, seam)
        yield


def clear() -> None:
    """Forget everything."""
    with server().lock:
        for database in server().dbs.values():
            database.clear()
