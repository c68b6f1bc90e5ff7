"""The deferred lane's adapter: SQS events, executed by Celery's own code.

Imported on first use: ``twolane.worker.control`` is for publishers too, which never run a task.
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
