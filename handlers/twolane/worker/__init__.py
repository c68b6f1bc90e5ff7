"""The deferred lane's adapter: SQS events, executed by Celery's own code.

The way of one record, and the modules on it:

1. ``handler``: ``WorkerHandler`` gets Lambda's event. ``records`` reads its records.
2. ``work``: ``Worker`` makes a run of each record. ``message`` reads its body into an envelope
   and into facts about its task; ``inflate`` decompresses it.
3. ``lookup``: one question to the state store, for the leases and the revocations of the batch.
   ``presence`` writes the worker's facts there, for ``inspect``.
4. ``work``: a record goes no further if another delivery does its work or has done it (``lease``),
   or if it descends from a task that publishes itself without end (``descent``).
5. ``consumer``: Celery's own consumer gets the message and makes a request of it. A request that is
   not due is sent again with a delay (``delay``).
6. ``work``: takes the lease, if it was not taken together with others. Its fence goes with the
   request, so that a result can be stored only while the lease is held.
7. ``pool``: runs the task within its ``limits``, at once or beside others (``concurrency``). A
   second thread looks whether it is revoked meanwhile (``lookup``).
8. ``redis_backend`` or ``dynamodb_backend``: the result and the end of the lease, in one write.
9. ``records``: Celery has acknowledged or rejected the message on its run. The outcome is logged,
   goes into the partial batch response, and says when a returned message is to come back; ``aws``
   sets that.

Beside this way are ``control``, which is ``app.control`` for callers, and ``events``, for monitors.

``WorkerHandler`` is imported on first use: ``twolane.worker.control`` is for publishers too, which
never run a task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane.worker.handler import WorkerHandler

__all__ = ["WorkerHandler"]


def __getattr__(name: str) -> object:
    if name != "WorkerHandler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twolane.worker.handler import WorkerHandler

    return WorkerHandler
