"""A result backend that is not there until somebody wants a result.

``send_task`` touches ``app.backend`` on each publish: to subscribe to the result that nobody may
ever read (Redis; 19 s of retries where it is down), and to put the backend into the ``AsyncResult``
that it returns. Merely making the backend imports redis (60 ms), or boto3 for DynamoDB (150 ms),
and scans the metadata of every installed package for plug-ins. A publisher needs none of it: what
stands in its place answers those touches, and becomes the stock backend at any other.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from celery import Celery

from twolane import snapshot
from twolane.publish.times import extend

if TYPE_CHECKING:
    from collections.abc import Callable

#: Backends that keep results under the task's id, where asking late is as good as asking early.
#: ``rpc://`` is not among them: its queue must be there before the result.
LAZY = frozenset({"redis", "rediss", "sentinel", "dynamodb", "s3", "cache", "db", "mongodb"})

_MARK = "_twolane_lazy"


class LazyBackend:
    """Stands for what ``make`` makes, once for each thread or once for all, as stock has it."""

    #: Celery keeps a thread-safe backend on the app; ours leads each thread to its own.
    thread_safe = True
    __slots__ = ("__weakref__", "_local", "_make", "_shared")

    def __init__(self, make: Callable[[], Any]) -> None:
        own = {"_make": make, "_local": threading.local(), "_shared": None}
        for name, value in own.items():
            object.__setattr__(self, name, value)
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the stock backend; the next use makes another."""
        real = self._made()
        if real is None:
            return
        from twolane.publish.renewal import close_backend

        close_backend(real)
        object.__setattr__(self, "_shared", None)
        object.__setattr__(self, "_local", threading.local())

    def on_task_call(self, producer: Any, task_id: str) -> Any:
        """Subscribe early, as stock does, where there is a backend and it is a process that stays.

        Otherwise nothing: whoever waits for the result subscribes first, then looks what is there.
        """
        real = self._made()
        if real is None or "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            return {}
        return real.on_task_call(producer, task_id)

    def add_pending_result(self, result: Any, weak: bool = False, **options: Any) -> Any:
        """``result.then(…)``: kept, weakly if so asked, until there is a backend to tell of it."""
        real = self._made()
        if real is not None:
            return real.add_pending_result(result, weak=weak, **options)
        kept = weakref.ref(result) if weak else lambda: result
        self._pending()[id(result)] = (kept, weak)
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Each ``AsyncResult`` calls this as it dies; that must not make a backend."""
        real = self._made()
        if real is None:
            self._pending().pop(id(result), None)
            return result
        return real.remove_pending_result(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real(), name)

    def __repr__(self) -> str:
        return f"<LazyBackend: {self._made() or 'nobody asked for a result yet'}>"

    def _made(self) -> Any:
        return self._shared or getattr(self._local, "real", None)

    def _pending(self) -> dict[int, tuple[Callable[[], Any], bool]]:
        pending: dict[int, tuple[Callable[[], Any], bool]]
        pending = vars(self._local).setdefault("pending", {})
        return pending

    def _real(self) -> Any:
        real = self._made()
        if real is None:
            real = self._make()
            if real.thread_safe:
                object.__setattr__(self, "_shared", real)
            self._local.real = real
            for kept, weak in vars(self._local).pop("pending", {}).values():
                if (result := kept()) is not None:
                    real.add_pending_result(result, weak=weak)
        return real


def install() -> None:
    """Make every Celery application's backend a lazy one, if it is of a kind that can be."""
    stock = vars(Celery)["_get_backend"]
    if hasattr(stock, _MARK):
        return

    def get_backend(self: Celery) -> Any:
        chosen = getattr(self, "backend_cls", None) or self.conf.result_backend
        if not chosen:
            # Stock would look through the metadata of every package for one named "disabled".
            from celery.backends.base import DisabledBackend

            return DisabledBackend(app=self)
        from twolane.worker.outage import guard

        scheme = chosen.partition(":")[0].partition("+")[0] if isinstance(chosen, str) else ""
        if scheme not in LAZY:
            return guard(stock(self))
        return LazyBackend(lambda: guard(extend(stock(self))))

    setattr(get_backend, _MARK, True)
    type.__setattr__(Celery, "_get_backend", get_backend)
