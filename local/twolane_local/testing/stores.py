"""The result stores of a test: an embedded Redis, and moto's DynamoDB.

No socket; keys and items expire in virtual time, and the store's faults strike here.
"""

from __future__ import annotations

import asyncio
import copy
import json
import queue
import re
import threading
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from unittest import mock

import redis

from twolane_local.aws.moto.dynamodb import REQUESTS, expire
from twolane_local.clock.threads import current
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.clock import Clock
    from twolane_local.clock.threads import Process
    from twolane_local.faults.injection import Faults


#: Commands that change nothing; ``changed`` is not called for their keys.
_READS = frozenset({"GET", "MGET", "EXISTS", "TTL", "PTTL", "SUBSCRIBE"})
#: The first commands on a connection; redis-py holds its pool's lock, so they must not wait.
_OPENING = frozenset({"HELLO", "CLIENT", "SELECT", "AUTH", "PING"})
#: Celery sends it when a result is garbage-collected, so at any point: it must not wait or fail.
_FROM_FINALIZERS = "UNSUBSCRIBE"
#: Keys among the words of packed commands: https://redis.io/docs/latest/develop/reference/protocol-spec/
#: An application may have put a prefix before them.
_KEYS = re.compile(rb"\r\n([^\r\n\"]{0,64}?(?:twolane:lease:|celery-task-meta-)[^\r\n]*)\r\n")
_WORD = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")


class FaultyCommands:
    """Passes on a connection's commands, with faults. ``plain`` is a client without them.
    ``changed(key)`` is called for a lease or result that may be written, ``lost(key)`` for a write
    that was undone, ``done(command)`` for each command carried out, before its answer is read.
    """

    def __init__(
        self,
        faults: Faults,
        plain: Any,
        *,
        changed: Callable[[str], object] | None = None,
        lost: Callable[[str], object] = lambda _: None,
        done: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._faults, self._plain = faults, plain
        self._changed, self._lost, self._done = changed, lost, done

    @property
    def idle(self) -> bool:
        """Whether commands only have to be sent."""
        return self._changed is None and not self._faults.any_at(
            "store", "store.write", "store.done"
        )

    def call(self, packed: bytes, send: Callable[[], Any]) -> Any:
        """Send one command, or several at once, with the armed faults."""
        process = current.get()
        if process is None or on_loop(process.loop):
            return send()
        found = _WORD.match(packed)
        word = found[1].decode().upper() if found else ""
        if word == _FROM_FINALIZERS:
            return send()
        process.check()
        if word in _OPENING:
            return send()
        keys = list(dict.fromkeys(key.decode() for key in _KEYS.findall(packed)))
        target = f"{word} {keys[0] if keys else ''}"
        keys = [] if word in _READS else keys
        undo: list[tuple[str, bytes | None]] = []
        self._strike(process, target)
        if keys and self._faults.at("store.write", target):
            undo = [(key, self._plain.get(key)) for key in keys]
        answer = send()
        for key, before in undo:
            self._lose(key, before)
        if self._changed is not None:
            for key in keys:
                self._changed(key)
        self._done(target)
        if self._faults.at("store.done", target):
            raise redis.TimeoutError("Timeout reading from socket")
        return answer

    def _strike(self, process: Process, target: str) -> None:
        for fault in self._faults.at("store", target):
            match fault.fault.name:
                case "store.down":
                    raise redis.ConnectionError("Error 111 connecting: Connection refused.")
                case _:  # store.slow
                    process.sleep(float(fault.value("seconds")))

    def _lose(self, key: str, before: bytes | None) -> None:
        if before is None:
            self._plain.delete(key)
        else:
            self._plain.set(key, before)
        self._lost(key)


class _BrokenSocket:
    """Replaces a connection's socket; sending raises the error."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    def sendall(self, _: object) -> None:
        raise self._error

    def shutdown(self, _: object) -> None:
        """It is."""

    def close(self) -> None:
        """It is."""


def break_down(connection: Any, send: Callable[[], object], error: redis.RedisError) -> NoReturn:
    """Break a connection, so that redis-py itself detects it and raises its usual error."""
    timed_out = isinstance(error, redis.TimeoutError)
    broken = TimeoutError("timed out") if timed_out else ConnectionRefusedError(111, str(error))
    connection._sock = _BrokenSocket(broken)  # noqa: SLF001 - redis-py has no seam there
    send()
    raise error


def on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this is the loop's own thread, which must not wait."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


#: A name that no resolver knows: what is not answered here is not answered at all.
HOST = "store.twolane.invalid"
URL = f"redis://{HOST}:6379/0"


class Listener:
    """Hears of the calls of execution environments, as soon as they were carried out and before
    their answers are read. This one does nothing about them.
    """

    def called(self, call: str) -> None:
        """A call to a result store, SQS or Scheduler."""

    def key_changed(self, key: str) -> None:
        """A lease or a result may have been written in Redis."""

    def key_lost(self, key: str) -> None:
        """Redis has lost a write."""

    def items_changed(self) -> None:
        """Items may have been written in DynamoDB."""


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
def embedded(faults: Faults, listener: Listener | None = None) -> Iterator[None]:
    """Inside, redis-py's connections to ``HOST`` lead to an empty server, with armed faults."""
    hears = listener or Listener()
    import redis
    from fakeredis import FakeStrictRedis

    seam = FaultyCommands(
        faults, FakeStrictRedis(server=server()), lost=hears.key_lost, done=hears.called,
        changed=None if listener is None else listener.key_changed,
    )  # fmt: skip

    def instead(get: Callable[..., Any]) -> Callable[..., Any]:
        def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            ours = pool.connection_kwargs.get("host") == HOST
            if ours and pool.connection_kwargs.get("server") is not server():
                # A pool that was used before may hold connections of the other kind.
                pool.connection_class = _connection()
                pool.connection_kwargs["server"] = server()
                pool.reset()
            found = get(pool, *args, **options)
            if ours and found.can_read():
                # An answer that a killed environment has left: redis-py lets it pass where the
                # server might notify it of maintenance.
                found.disconnect()
                found.connect()
            return found

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
    with server().lock:
        for database in server().dbs.values():
            database.clear()


_SERVICE = "DynamoDB_"
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})


class Tables:
    """Stands before moto's answers to DynamoDB's calls."""

    def __init__(
        self,
        faults: Faults,
        clock: Clock,
        listener: Listener,
    ) -> None:
        self._faults, self._clock, self._listener = faults, clock, listener

    def __call__(self, request: Any, answer: Callable[[Any], Any]) -> Any:
        """Return ``answer(request)``, or raise botocore's own errors, which it retries."""
        value = request.headers.get("X-Amz-Target") or ""
        service, _, action = (value.decode() if isinstance(value, bytes) else value).partition(".")
        action = action if service.startswith(_SERVICE) else None
        if action is None:
            return answer(request)
        expire(self._clock.time())
        process = current.get()
        if process is None or on_loop(process.loop):
            return answer(request)
        process.check()
        if not self._faults.any_at("store", "store.write", "store.done"):
            return answer(request)
        from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

        target = f"{action} {key_of(request.body)}"
        for fault in self._faults.at("store", target):
            match fault.fault.name:
                case "store.down":
                    raise EndpointConnectionError(endpoint_url=request.url)
                case _:  # store.slow
                    process.sleep(float(fault.value("seconds")))
        lost = action in _WRITES and any(self._faults.at("store.write", target))
        with REQUESTS, _undone() if lost else _kept():
            answered = answer(request)
        if action in _WRITES:
            self._listener.items_changed()
        self._listener.called(target)
        if self._faults.at("store.done", target):
            raise ReadTimeoutError(endpoint_url=request.url)
        return answered


def _tables() -> Mapping[str, Any]:
    from moto.dynamodb.models import dynamodb_backends

    tables: Mapping[str, Any] = dynamodb_backends[ACCOUNT][REGION].tables
    return tables


@contextmanager
def _kept() -> Iterator[None]:
    yield


@contextmanager
def _undone() -> Iterator[None]:
    """What the block writes is lost."""
    before = {name: copy.deepcopy(table.items) for name, table in _tables().items()}
    yield
    for name, items in before.items():
        _tables()[name].items = items


def key_of(body: Any) -> str:
    """The value of the first attribute of a call's (first) key or item; empty where it has none."""
    call = json.loads(body or b"{}")
    if "TransactItems" in call:
        (call,) = call["TransactItems"][0].values()
    for attribute in (call.get("Key") or call.get("Item") or {}).values():
        return str(next(iter(attribute.values())))
    return ""
