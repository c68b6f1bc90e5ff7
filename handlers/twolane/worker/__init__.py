"""The deferred lane's adapter: SQS events, executed by Celery's own code."""

from twolane.worker.handler import WorkerHandler

__all__ = ["WorkerHandler"]
