"""Celery's Redis result backend, with a task's result and the end of its lease in one round trip.

Celery reads what is stored (a success is never overwritten), writes, and publishes: two round
trips, and the end of the lease would be a third. One script does it all, atomically, as long as
nothing is stored yet; otherwise Celery's own rule decides here. Result format, channel, expiry and
retries are Celery's.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends import redis
from kombu.utils.encoding import bytes_to_str

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.worker.lease import Lease

#: celery-types leaves out what is overridden below.
_CeleryBackend: Any = redis.RedisBackend

# ARGV: the result, its seconds to live (0: for ever), then the lease as held and as ended, and its
# milliseconds to live. A lease that has passed to another delivery is left alone.
_STORE = """
local live = redis.call('GET', KEYS[1])
if live then return {live, 0} end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
if KEYS[2] and redis.call('GET', KEYS[2]) == ARGV[3] then
  redis.call('SET', KEYS[2], ARGV[4], 'PX', ARGV[5])
  return {false, 1}
end
return {false, 0}
"""


@dataclass(eq=False, slots=True)
class Ending:
    """How the lease of the running task is to end if its success is stored."""

    task_id: str
    key: str
    held: Lease
    finish: Callable[[], Lease]
    keep_s: float
    ended: Lease | None = None


#: The running task's, where its lease and its result are in the same database.
ending: ContextVar[Ending | None] = ContextVar("twolane_ending", default=None)


class RedisBackend(_CeleryBackend):  # type: ignore[misc]
    """What ``redis://`` and ``rediss://`` open once a ``WorkerHandler`` was made."""

    _riding: Ending | None = None
    _script: Any = None

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        one = ending.get()
        # A header's work has ended only when its chord has counted it, which comes after.
        rides = one is not None and one.task_id == task_id and not (request and request.chord)
        self._riding = one if rides else None
        try:
            super().mark_as_done(task_id, result, request, store_result, state)
        finally:
            self._riding = None

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **kwargs: Any,
    ) -> Any:
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = bytes_to_str(task_id)
        value = self.encode(meta)
        if len(value) > self._MAX_STR_VALUE_SIZE:  # Celery's backend refuses it, in its own words
            return super()._store_result(task_id, result, state, traceback, request, **kwargs)
        key = self.get_key_for_task(task_id)
        expires = self.failure_expires if state == states.FAILURE else None
        expires = self.expires if expires is None else expires
        live = self.ensure(self._store_new, (key, value, expires))
        if live is not None and self.decode_result(live)["status"] != states.SUCCESS:
            self._set_with_state(key, value, state)
        return result

    def _store_new(self, key: str, value: str | bytes, expires: int | None) -> bytes | None:
        """Store the first result; else return the one that is there."""
        if self._script is None:
            self._script = self.client.register_script(_STORE)
        keys, args = [key], [value, expires or 0]
        one = self._riding
        done = None
        if one is not None:
            done = one.finish()
            keys.append(one.key)
            args += [one.held.text, done.text, max(1, round(one.keep_s * 1000))]
        live, ended = self._script(keys=keys, args=args)
        if one is not None and ended:
            one.ended = done
        return live if live is None else bytes(live)
