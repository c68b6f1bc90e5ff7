"""Celery's Redis result backend, with results behind the lease's fence, and safe chords.

Celery reads what is stored (a success is never overwritten), writes, and publishes: two round
trips, and the end of the lease would be a third. Here one script writes and publishes on the
condition that result and lease are as they were seen, and ends the lease. Only if they are not does
Celery's own decoding look at the stored state, as a value; so any serializer and any compression
will do. Result format, channel, expiry and retries are Celery's.

A worker that sees a chord complete claims it before it publishes the body (celery 5.7), under a
name that is new each time, for some seconds to half a minute. If it is killed there, its message
may come back within that time. It would find the chord claimed by a worker that is gone, and be
acknowledged; the body would never start. Here the claim has its header task's name, and a delivery
that comes again takes it over.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from celery import _state, states
from celery._state import get_current_worker_task
from celery.backends import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.functional import retry_over_time

from twolane.environment.invocation import LONGEST_S, left_s
from twolane.patches.clients import impatient_redis, is_outage, patient_redis
from twolane.patches.versions import failure_expires
from twolane.state.redis import key_prefix, run
from twolane.worker.lease import Change, FencedResults, Stored, read_lease, with_marked_body
from twolane.worker.limits import is_late, struck

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.worker.lease import LeaseFence

#: celery-types leaves out the methods that are overridden below.
_CeleryBackend: Any = redis.RedisBackend

#: ``redis_socket_timeout`` in an application that has not set it.
_CELERYS_TIMEOUT_S = 120.0

#: What Celery's retries leave of the invocation's time, in seconds: leases are then given back.
_LEFT_OVER_S = 0.5

# KEYS: of the result and, behind a fence, of the lease.
# ARGV: the result, its seconds to live (0: for ever), the result that was seen (empty: none); then
# the lease as it is expected and as it ends (empty: the task goes on), its milliseconds to live.
# Returns nothing, or the stored result and lease where they are others.
_STORE = """
local live, lease = unpack(redis.call('MGET', KEYS[1], KEYS[2] or KEYS[1]))
lease = KEYS[2] and lease or false
if (live or '') ~= ARGV[3] or (lease and lease ~= ARGV[4]) then return {live, lease} end
if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])
else redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1]) end
redis.call('PUBLISH', KEYS[1], ARGV[1])
if KEYS[2] and ARGV[5] ~= '' then redis.call('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]) end
return false
"""


class RedisBackend(FencedResults, _CeleryBackend):  # type: ignore[misc]
    """The backend of ``redis://`` and ``rediss://`` in a process with a ``WorkerHandler``."""

    @cached_property
    def _script(self) -> Any:
        return self.client.register_script(_STORE)

    @cached_property
    def _lease_prefix(self) -> str:
        return key_prefix(self.app)

    def _create_client(self, **params: Any) -> Any:
        own = params.get("socket_timeout")
        longest = LONGEST_S if own in {None, _CELERYS_TIMEOUT_S} else float(own)
        return patient_redis(super()._create_client(**params), longest=longest)

    def ensure(self, fun: Any, args: Any, **policy: Any) -> Any:
        """Celery's retries, as long as there is time for another one."""
        policy = {**self.retry_policy, **policy}
        most = policy.get("max_retries")

        def wait_s(error: Exception, intervals: Any, retries: int) -> float:
            left = left_s()
            wait: float = self.on_connection_error(most, error, intervals, retries)
            if left is not None and wait + _LEFT_OVER_S >= left:
                raise error
            return wait

        errback: Any = wait_s  # the stubs know another signature
        return retry_over_time(fun, self.connection_errors, args, {}, errback, **policy)

    def _fitted(self, value: str | bytes) -> str | bytes | None:
        return value if len(value) <= self._MAX_STR_VALUE_SIZE else None

    def _look(self, key: Any, fence: LeaseFence) -> Stored:
        result, lease = self.client.mget(key, self._lease_prefix + fence.key)
        return _stored(result, lease)

    def _write(self, change: Change) -> Stored | None:
        expires = failure_expires(self) if change.state == states.FAILURE else None
        expires = self.expires if expires is None else expires
        keys, args = [change.key], [change.value, expires or 0, change.seen or ""]
        fence, ended = change.fence, change.ended
        if fence is not None and change.expected is not None:
            keys.append(self._lease_prefix + fence.key)
            keep_ms = max(1, round(fence.leases.keep_s * 1000))
            args += [change.expected.text, ended.text if ended is not None else "", keep_ms]
        found = self.ensure(run, (self._script, keys, args))
        return None if found is None else _stored(*found)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, propagate: Any = None, **kwargs: Any
    ) -> None:
        if not request.group or not request.id:
            return
        part: Any = _ChordPart(self, request)
        part.take_over(self.get_key_for_group(request.group, ".c"), request)
        marked = with_marked_body(request)
        _CeleryBackend.on_chord_part_return(part, marked, state, result, propagate, **kwargs)

    def add_pending_result(self, result: Any, *args: Any, **options: Any) -> Any:
        # A task may not wait for a result where joining blocks, and Celery subscribes to none that
        # is published there; nor to a group's, whose errback was lost with a store that was down.
        joining: Any = _state
        if joining.task_join_will_block():
            return result
        return super().add_pending_result(result, *args, **options)


def _stored(result: Any, lease: Any) -> Stored:
    return Stored(result, read_lease(bytes_to_str(lease)))


_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class _ChordPart:
    """The backend as Celery counts one part of a chord by it. Its claim has the part's name. A
    store that is down, or slow, leaves the chord as it is, where Celery would fail it: it is
    completed when the part's message comes again.
    """

    def __init__(self, backend: RedisBackend, request: Any) -> None:
        self._backend: Any = backend
        # The member's place is in the name: a frozen signature may be there twice, with one id.
        member = f"{request.id}:{getattr(request, 'group_index', None)}"
        self.claim = hashlib.blake2b(member.encode(errors="replace"), digest_size=16).hexdigest()
        self._struck = struck()
        self._comes_again = False
        self.client = _Client(self._backend.client, self._delete, self._ends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def take_over(self, key: str, request: Any) -> None:
        """Release the claim that an earlier delivery of this message has taken."""
        info = getattr(request, "delivery_info", None)
        if not info:  # what a failed task's chain would have been has no delivery of its own
            task: Any = get_current_worker_task()
            info = task.request.delivery_info if task is not None else None
        if info and info.get("redelivered"):
            self._backend.client.eval(_RELEASE, 1, key, self.claim)

    def _delete(self, *keys: Any) -> Any:
        """Delete the size of a chord that Celery has failed."""
        return 0 if self._comes_again else self._backend.client.delete(*keys)

    def _chord_part_return_script(self, keys: Any, args: Any, client: Any) -> Any:  # noqa: ARG002
        script = self._backend._chord_part_return_script  # noqa: SLF001 - Celery's own, in its backend
        return self._run(script, keys, args, 7)

    def _chord_claim_extend_script(self, keys: Any, args: Any, client: Any) -> Any:  # noqa: ARG002
        script = self._backend._chord_claim_extend_script  # noqa: SLF001 - Celery's own, in its backend
        return self._run(script, keys, args, 0)

    def _chord_cleanup_script(self, keys: Any, args: Any, client: Any) -> Any:  # noqa: ARG002
        if not self._ends():
            return True
        script = self._backend._chord_cleanup_script  # noqa: SLF001 - Celery's own, in its backend
        return self._run(script, keys, args, 0)

    def _ends(self) -> bool:
        # Celery ends the chord even if the publish failed; one that comes back has not ended.
        error = sys.exc_info()[1]
        return error is None or not is_late(error, self._struck)

    def _run(self, script: Any, keys: Any, args: Any, place: int) -> Any:
        """Run one of Celery's scripts, which has the claim's name at ``place``."""
        named = list(args)
        named[place] = self.claim
        return script(keys=keys, args=named, client=self._backend.client)

    def chord_error_from_stack(self, callback: Any, exc: BaseException | None = None) -> Any:
        # Celery fails a chord whose header's results it cannot read. It can, later.
        handled = sys.exc_info()[1]
        if handled is not None and self._store_failed(handled):
            raise handled
        try:
            return self._backend.chord_error_from_stack(callback, exc)
        except Exception as error:
            # A chord that fails may be a part of another one, which is then counted in here.
            self._store_failed(error)
            raise

    def _store_failed(self, error: BaseException) -> bool:
        """True if the chord is to be completed later, when its header's message comes again."""
        down = _is_clients(error) and is_outage(error, self._backend)
        self._comes_again = self._comes_again or down or is_late(error, self._struck)
        return self._comes_again


class _Client:
    """A Redis client whose deletes are another function."""

    def __init__(self, client: Any, delete: Any, ends: Callable[[], bool]) -> None:
        self._client = client
        self._ends = ends
        self.delete = delete

    def pipeline(self, *args: Any, **options: Any) -> Any:
        return _Pipeline(self._client.pipeline(*args, **options), self._ends)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _Pipeline:
    """In a pipeline Celery before 5.7 deletes what it has kept of a chord; ``ends``: it may."""

    def __init__(self, pipeline: Any, ends: Callable[[], bool]) -> None:
        self._pipeline = pipeline
        self._ends = ends

    def __enter__(self) -> Self:
        self._pipeline.__enter__()
        return self

    def __exit__(self, *raised: object) -> Any:
        return self._pipeline.__exit__(*raised)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def delete(self, *keys: Any) -> _Pipeline:
        if self._ends():
            self._pipeline.delete(*keys)
        return self


def _is_clients(error: BaseException) -> bool:
    """True if it was raised in redis-py; a header task may have failed with the same error."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = traceback.tb_frame.f_globals.get("__name__", "") if traceback is not None else ""
    return str(name).partition(".")[0] == "redis"


class SentinelBackend(RedisBackend, redis.SentinelBackend):
    """``sentinel://``: the same, at the primary that its sentinels name."""

    def _get_sentinel_instance(self, **params: Any) -> Any:
        found = super()._get_sentinel_instance(**params)
        for sentinel in found.sentinels:
            impatient_redis(sentinel)
        return found
