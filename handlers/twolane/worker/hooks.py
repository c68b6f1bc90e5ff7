"""What Celery looks up by name and finds here instead of its own; nothing is imported for it."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.app import backends
from celery.app.events import Events
from celery.utils.imports import instantiate
from kombu.utils.objects import cached_property

_STOCK_CONTROL = "celery.app.control:Control"
_CONTROL = "twolane.worker.control:Control"
_MARK = "_twolane_redirected"


def install() -> None:
    """Put in the store-backed ``app.control``, events over Redis, and our result backends.

    Those are Celery's own, with duplicate-safe chords on DynamoDB and fewer round trips to Redis.

    They are for what an application opens from now on; with a broker or a result backend of another
    kind they change nothing, nor does an application with a ``control`` class of its own lose it.
    Idempotent.
    """
    Events.dispatcher_cls = "twolane.worker.events:Dispatcher"
    Events.receiver_cls = "twolane.worker.events:Receiver"
    receivers: Any = sys.modules.get("celery.events.receiver")
    if receivers is not None:
        _redirect(receivers.EventReceiver)
    backends.BACKEND_ALIASES["dynamodb"] = "twolane.worker.chords:DynamoDBBackend"
    for scheme in ("redis", "rediss"):
        backends.BACKEND_ALIASES[scheme] = "twolane.worker.results:RedisBackend"
    # An application copies the class's control_cls when it is made, which is before us.
    control = cached_property(_control)
    control.__set_name__(Celery, "control")  # type: ignore[attr-defined]
    Celery.control = control  # type: ignore[assignment,method-assign]


def _control(app: Any) -> Any:
    chosen = app.control_cls
    return instantiate(_CONTROL if chosen == _STOCK_CONTROL else chosen, app=app)


def _redirect(receiver: Any) -> None:
    """Flower takes Celery's receiver by its own name, and long before an application is loaded."""
    stock = receiver.__init__
    if hasattr(stock, _MARK):
        return

    def init(self: Any, channel: Any, *args: Any, app: Any = None, **kwargs: Any) -> None:
        from twolane.worker.events import listening_to

        stock(self, listening_to(app or self.app, channel), *args, app=app, **kwargs)

    setattr(init, _MARK, True)
    receiver.__init__ = init
