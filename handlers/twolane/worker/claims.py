"""A claim on a chord in Redis that its own header task finds again.

Whoever sees a chord complete claims it before it publishes the body (celery 5.7), under a name that
is new each time, for some seconds to half a minute. Were it killed there, its message may come back
within that time: it would find the chord claimed, by nobody that lives, and be acknowledged; the
body would never start. Here the claim has its header task's name, and a delivery that comes again
takes it over.
"""

from __future__ import annotations

import hashlib
from typing import Any

from celery._state import get_current_worker_task

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class NamedClaim:
    """One of Celery's chord scripts, with the claim's name at ``place`` among its arguments."""

    def __init__(self, backend: Any, script: Any, place: int) -> None:
        self._backend = backend
        self._script = script
        self._place = place

    def __call__(self, keys: Any, args: Any, client: Any) -> Any:
        named = list(args)
        named[self._place] = self._backend.claim_name
        return self._script(keys=keys, args=named, client=client)


def claim_name(request: Any) -> str:
    """Of one member of a group: a frozen signature may be there twice, with one id."""
    member = f"{request.id}:{getattr(request, 'group_index', None)}"
    return hashlib.blake2b(member.encode(errors="replace"), digest_size=16).hexdigest()


def release_own(client: Any, key: str, name: str, request: Any) -> None:
    """Let go of what an earlier delivery of this message has claimed."""
    if _comes_again(request):
        client.eval(_RELEASE, 1, key, name)


def _comes_again(request: Any) -> bool:
    info = getattr(request, "delivery_info", None)
    if not info:  # what a failed task's chain would have been has no delivery of its own
        task: Any = get_current_worker_task()
        info = task.request.delivery_info if task is not None else None
    return bool(info and info.get("redelivered"))
