"""Celery's groups, published through kombu's batch.

Celery publishes a group's tasks one by one, over one producer, in ``group._apply_tasks``; it has no
setting that makes them a batch (celery 5.7). That one method is wrapped: all it does runs inside
``Producer.batch()``. Groups in groups share the outermost batch. Of a group that is a generator the
first task leaves at once, as with a stock publisher: the next may take long to be drawn.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery.canvas import group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK = "_twolane_batched"


def install() -> None:
    """Wrap ``group._apply_tasks`` once."""
    stock: Callable[..., Iterator[Any]] = vars(group)["_apply_tasks"]
    if hasattr(stock, _MARK):
        return

    def apply_tasks(
        self: Any, tasks: Any, producer: Any = None, app: Any = None, *args: Any, **kwargs: Any
    ) -> Iterator[Any]:
        app = app or self.app
        with app.producer_or_acquire(producer) as shared:
            # On other brokers: stock behaviour to the letter.
            light = shared.connection.transport.driver_type == "sqs"
            if light:
                shared.channel.drawing = _is_drawn(self.tasks)
            with shared.batch() if light else nullcontext():
                yield from stock(self, tasks, shared, app, *args, **kwargs)

    setattr(apply_tasks, _MARK, True)
    type.__setattr__(group, "_apply_tasks", apply_tasks)


def _is_drawn(tasks: Any) -> bool:
    """Whether tasks come from a generator that may have more.

    Celery keeps one in a list of its own (``celery.utils.functional.regen``, celery 5.7), which
    tells nobody how far it is.
    """
    return getattr(tasks, "_regen__done", True) is False
