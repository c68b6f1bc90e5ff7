"""What a task publishes says when that task was sent.

A task that is killed after it has published the next step of its chain publishes it again when it
comes back: ``twolane.worker.lease`` says what that is for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from celery import signals

from twolane.worker.ending import sent_s
from twolane.worker.lease import ORIGIN

if TYPE_CHECKING:
    from collections.abc import MutableMapping


def install() -> None:
    """Idempotent."""
    signals.before_task_publish.connect(_mark, weak=False, dispatch_uid="twolane.origins")


def _mark(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    sent = sent_s()
    if headers is not None and sent is not None and math.isfinite(sent):
        headers.setdefault(ORIGIN, sent)
