"""Faults of a Redis in this process: commands that fail, take long, or are lost."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, NoReturn

import redis

from twolane_local.clock.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """Passes on a connection's commands, with faults.

    ``plain`` is a client of the same server without faults. ``changed(key)`` is called for each
    lease and result that may have been written, ``lost(key)`` for each write that was undone,
    ``done(command)`` for each command that was carried out, before its answer is read.
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
        word = _word(packed)
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


def _word(packed: bytes) -> str:
    """Return the first command's name."""
    found = _WORD.match(packed)
    return found[1].decode().upper() if found else ""


def on_loop(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this is the loop's own thread, which must not wait."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
