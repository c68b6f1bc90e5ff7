"""The state store in Redis or Valkey, on the connection pool of Celery's own result backend.

Everything that needs a condition is one command or one script, so it is atomic on a single primary:
https://redis.io/docs/latest/develop/programmability/eval-intro/

``kept_connection`` keeps one connection for as long as a batch runs. redis-py takes a connection
from its pool for each command, checks that it is not stale, wraps retries and telemetry around it
and gives it back: three times the cost of the command itself on a server near by. A worker sends
its few commands one after the other from one thread, and takes the connection once a batch. A
command that fails on it is repeated by the client, in the client's way. It saves
13 % of "a task, with Redis results and leases" in ``benchmarks/worker.py``.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from twolane.environment import snapshot
from twolane.environment.invocation import left_s
from twolane.errors import StoreUnavailableError
from twolane.patches.clients import connection_of
from twolane.state.store import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from celery import Celery

# A script, because SET takes a condition on presence (NX, XX) but none on the value.
_SWAP = """
local last = ARGV[4] == '' and -1 or #ARGV[1] - 1
if redis.call('GETRANGE', KEYS[1], 0, last) ~= ARGV[1] then
  return redis.call('GET', KEYS[1]) or ''
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
_DELETE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class _Opened:
    parts: tuple[Any, Any, Any] | None = None


class _OfThread(threading.local, _Opened):
    """Each thread's own."""


class RedisStore:
    """``connect`` returns the client; it is called on first use. ``beside_results``: Celery's
    results are in the same database, so that one command can change both, and ``connect`` is called
    in each thread, as Celery has a client for each. ``prefix``, of ``key_prefix``, is put before
    every key.
    """

    def __init__(
        self, connect: Callable[[], Any], *, beside_results: bool = False, prefix: str = ""
    ) -> None:
        self._connect = connect
        self.beside_results = beside_results
        self._prefix = prefix
        self._opened = _OfThread() if beside_results else _Opened()
        self._talking = _Talking(self)
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the connections; the next command opens others."""
        if self._opened.parts is not None:
            client, *_ = self._opened.parts
            client.connection_pool.disconnect()
            self._opened = _OfThread() if self.beside_results else _Opened()

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(keys)
        found: dict[str, str] = {}
        with self._talking as (client, _, _):
            for start in range(0, len(wanted), 100):
                part = wanted[start : start + 100]
                values = call(client, "MGET", *map(self._key, part))
                for key, value in zip(part, values, strict=True):
                    if value is not None:
                        found[key] = _text(value)
        return found

    def put(self, key: str, value: str, *, ttl_s: float) -> None:
        with self._talking as (client, _, _):
            call(client, "SET", self._key(key), value, "PX", _milliseconds(ttl_s))

    def swap(
        self, key: str, expected: str | None, value: str, *, ttl_s: float, head: int | None = None
    ) -> str | None:
        key = self._key(key)
        with self._talking as (client, swap, _):
            if expected is not None:
                part = "" if head is None else head
                args = [expected[:head], value, _milliseconds(ttl_s), part]
                stood = run(swap, [key], args)
                return None if stood is None else _text(stood)
            if call(client, "SET", key, value, "PX", _milliseconds(ttl_s), "NX"):
                return None
            return _text(client.get(key) or b"")

    def add_many(
        self, values: Mapping[str, str], *, ttl_s: float, side_by_side: bool = False,  # noqa: ARG002
    ) -> set[str]:  # fmt: skip
        lifetime = _milliseconds(ttl_s)
        written: set[str] = set()
        keys = list(values)
        with self._talking as (client, _, _):
            for start in range(0, len(keys), 100):
                part = keys[start : start + 100]
                replies = call_many(
                    client,
                    [("SET", self._key(key), values[key], "PX", lifetime, "NX") for key in part],
                )
                written.update(key for key, reply in zip(part, replies, strict=True) if reply)
        return written

    def delete(self, key: str, *, expected: str | None = None) -> bool:
        key = self._key(key)
        with self._talking as (client, _, delete):
            if expected is None:
                return bool(client.delete(key))
            return bool(run(delete, [key], [expected]))

    def delete_many(self, expected: Mapping[str, str]) -> None:
        pairs = list(expected.items())
        with self._talking as (client, _, _):
            for start in range(0, len(pairs), 100):
                part = pairs[start : start + 100]
                call_many(
                    client, [("EVAL", _DELETE, 1, self._key(key), value) for key, value in part]
                )

    def _key(self, key: str) -> str:
        return self._prefix + bounded(key)

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Keep one connection for this thread: for many commands, one after the other."""
        with self._talking as (client, _, _):
            pass
        with kept_connection(client):
            yield

    def opened(self) -> tuple[Any, Any, Any]:
        if self._opened.parts is None:
            client = self._connect()
            self._opened.parts = (
                client, client.register_script(_SWAP), client.register_script(_DELETE),
            )  # fmt: skip
        return self._opened.parts


class _Talking:
    """One use of a store; an error of the client is the store's trouble."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store

    def __enter__(self) -> tuple[Any, Any, Any]:
        try:
            return self._store.opened()
        except Exception as error:
            self.__exit__(type(error), error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object = None) -> None:
        if error is None:
            return
        # Imported where it is needed: each task comes here a few times.
        from redis.exceptions import RedisError

        if isinstance(error, RedisError | OSError):
            raise StoreUnavailableError(
                f"the Redis state store did not answer ({error}); nothing is lost, the message "
                "will be delivered again. Check the result backend's address and its memory"
            ) from error


def key_prefix(app: Celery) -> str:
    """The prefix of each key in the application's result backend; mostly empty.

    With a hash tag in it, ``{shop}:``, all keys are in one slot of a Redis cluster, which else
    refuses commands that name two: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags
    """
    options = app.conf.get("result_backend_transport_options") or {}
    prefix = str(options.get("global_keyprefix") or "")
    # As Celery has it, in KeyValueStoreBackend._add_global_keyprefix.
    return prefix if not prefix or prefix[-1] in ":_-." else f"{prefix}_"


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def _milliseconds(ttl_s: float) -> int:
    return max(1, round(ttl_s * 1000))


class _Kept(threading.local):
    """This thread's connection: no other thread may come between a command and its reply."""

    client: Any = None
    connection: Any = None


_kept = _Kept()


def _forget() -> None:
    """Forget the connection in a forked process: it is the parent's."""
    _kept.client = _kept.connection = None


os.register_at_fork(after_in_child=_forget)


@contextmanager
def kept_connection(client: Any) -> Iterator[None]:
    """Let ``call`` use one connection of ``client`` in this thread, from its pool, which finds out
    dead ones. ``call`` works without a server, or with another client, all the same.
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
    """Run one command, without redis-py's conversions of replies; raises what the client does."""

    def talk(connection: Any) -> Any:
        connection.send_command(*command)
        return connection.read_response()

    return _on_kept(client, talk, lambda: client.execute_command(*command))


def call_many(client: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run commands in one round trip; as ``call``. All of them run if one is refused."""

    def talk(connection: Any) -> list[Any]:
        from redis.exceptions import ResponseError

        connection.send_packed_command(connection.pack_commands(commands))
        replies: list[Any] = []
        refused: list[Exception] = []
        for _ in commands:
            # Each reply is read, or it would be the one of the next command.
            try:
                replies.append(connection.read_response())
            except ResponseError as error:
                refused.append(error)
        if refused:
            raise refused[0]
        return replies

    def by_client() -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = pipeline.execute()
        return replies

    return cast("list[Any]", _on_kept(client, talk, by_client))


def _on_kept(client: Any, talk: Callable[[Any], Any], by_client: Callable[[], Any]) -> Any:
    """Talk over this thread's connection, or let the client do it."""
    connection = _kept.connection
    if connection is None or _kept.client is not client:
        return by_client()
    _kept.connection = None  # a finalizer that comes here meanwhile goes by the client
    try:
        return talk(connection)
    except BaseException as error:
        from redis import exceptions

        if isinstance(error, exceptions.ResponseError):
            raise
        connection.disconnect()
        lost = isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError)
        if lost and left_s() != 0.0:  # with no time left, the answer of the function comes first
            return by_client()
        # A time limit struck between the command and its reply, which must not be the next one's.
        raise
    finally:
        _kept.connection = connection


def run(script: Any, keys: Sequence[str], args: Sequence[Any]) -> Any:
    """Run a registered script as ``call`` runs a command."""
    try:
        return call(script.registered_client, "EVALSHA", script.sha, len(keys), *keys, *args)
    except Exception as error:
        from redis.exceptions import NoScriptError

        if not isinstance(error, NoScriptError):
            raise
    # A server that is new, or whose scripts were flushed.
    return script(keys=keys, args=args)


def _take(pool: Any) -> Any:
    from redis.exceptions import RedisError

    try:
        return connection_of(pool)
    except (RedisError, OSError):
        return None  # the first command says so, in its own way
