"""Find the state store that belongs to a Celery application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from twolane.errors import ConfigurationError
from twolane.state.memory import MemoryStore
from twolane.state.patience import patient_redis

if TYPE_CHECKING:
    from celery import Celery

    from twolane.state.store import StateStore

_REDIS = frozenset({"redis", "rediss", "sentinel", "redis+socket"})
_MEMORY = frozenset({"memory", "cache+memory"})

_memory: dict[str, MemoryStore] = {}


def open_store(app: Celery) -> StateStore:
    """The store beside the application's results: ``redis://``, ``rediss://`` or ``dynamodb://``.

    The Celery setting ``twolane_state_store`` names another one: results in Redis and leases in
    DynamoDB, say. ``memory://`` is shared within the process. Raises ``ConfigurationError`` where
    neither setting names a database that can hold state. Connects on first use only.
    """
    store = find_store(app)
    if store is None:
        raise ConfigurationError(
            "no state store: leases, revocations and idempotency keys need Redis or DynamoDB. "
            "Set Celery's result_backend (or twolane_state_store) to redis://… or dynamodb://…"
        )
    return store


def find_store(app: Celery) -> StateStore | None:
    """As ``open_store``, but ``None`` where the settings name none."""
    results = app.conf.result_backend
    url = app.conf.get("twolane_state_store") or results
    if not isinstance(url, str):
        return None
    scheme = urlsplit(url).scheme
    if scheme in _REDIS:
        from twolane.state.redis import RedisStore, key_prefix

        if url == results:
            # Celery's own client: its TLS, credentials and timeouts, and one connection for both.
            return RedisStore(
                lambda: cast("Any", app.backend).client,
                beside_results=True,
                prefix=key_prefix(app),
            )
        import redis

        return RedisStore(
            lambda: patient_redis(redis.Redis.from_url(url, socket_timeout=5)),
            prefix=key_prefix(app),
        )
    if scheme == "dynamodb":
        from twolane.state.dynamodb import DynamoDBStore, connect, parse_url

        location = parse_url(url)
        return DynamoDBStore(
            location.table, lambda: connect(location), beside_results=url == results
        )
    if scheme in _MEMORY:
        return _memory.setdefault(url, MemoryStore())
    return None
