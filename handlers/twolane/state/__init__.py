"""The state store: leases, revocations, idempotency keys, ticks. Beside Celery's result backend."""

from twolane.state.opening import find_store, open_store
from twolane.state.store import StateStore

__all__ = ["StateStore", "find_store", "open_store"]
