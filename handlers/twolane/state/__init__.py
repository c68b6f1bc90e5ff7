"""The state store: leases, revocations, idempotency keys, ticks. Beside Celery's result backend."""

from twolane.state.store import StateStore

__all__ = ["StateStore"]
