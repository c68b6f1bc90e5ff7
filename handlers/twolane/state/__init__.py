"""The state store: leases, revocations, idempotency keys, ticks. Beside Celery's result backend."""

from twolane.state.store import StateStore, find_store, open_store

__all__ = ["StateStore", "find_store", "open_store"]
