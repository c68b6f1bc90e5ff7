"""One Redis connection, kept for as long as a batch of tasks runs.

redis-py takes a connection from its pool for each command, looks whether it is stale, wraps retries
and telemetry around it and gives it back: three times the cost of the command itself on a server
near by. A worker sends its few commands one after the other from one thread; it takes the
connection once a batch. Whatever goes wrong on it is done again by the client, in the client's way.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Kept(threading.local):
    """This thread's line: no other thread may come between a command and its reply."""

    client: Any = None
    connection: Any = None


_kept = _Kept()


def _forget() -> None:
    """In a forked process: the conversation is its parent's."""
    _kept.client = _kept.connection = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def kept_connection(client: Any) -> Iterator[None]:
    """Let ``call`` use one connection of ``client`` in this thread.

    Takes it from the client's pool, so a connection that died while the environment was frozen is
    found out. Without a server, or with a client of another kind, ``call`` works all the same.
    """
    pool: Any = getattr(client, "connection_pool", None)
    connection = _take(pool) if pool is not None and _kept.connection is None else None
    if connection is None:
        yield
        return
    _kept.client, _kept.connection = client, connection
    try:
        yield
    finally:
        _kept.client = _kept.connection = None
        pool.release(connection)


def call(client: Any, *command: Any) -> Any:
    """Run one command; the reply is as Redis sends it, without redis-py's conversions.

    Raises what the client raises.
    """
    from redis.exceptions import ConnectionError as LostConnectionError
    from redis.exceptions import ResponseError
    from redis.exceptions import TimeoutError as NoReplyError

    connection = _kept.connection
    if connection is None or _kept.client is not client:
        return client.execute_command(*command)
    _kept.connection = None  # a finalizer that comes here meanwhile goes by the client
    try:
        connection.send_command(*command)
        return connection.read_response()
    except ResponseError:
        raise
    except (LostConnectionError, NoReplyError, OSError):
        connection.disconnect()
        return client.execute_command(*command)
    except BaseException:
        # A time limit struck between the command and its reply, which must not be the next one's.
        connection.disconnect()
        raise
    finally:
        _kept.connection = connection


def run(script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a registered script as ``call`` runs a command."""
    from redis.exceptions import NoScriptError

    try:
        return call(script.registered_client, "EVALSHA", script.sha, len(keys), *keys, *args)
    except NoScriptError:  # a server that is new, or was told to forget
        return script(keys=keys, args=args)


def _take(pool: Any) -> Any:
    from redis.exceptions import RedisError

    try:
        return pool.get_connection()
    except (RedisError, OSError):
        return None  # the first command says so, in its own way
