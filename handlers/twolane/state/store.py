"""The state store: twolane's memory between invocations.

A store holds small JSON texts under string keys, each with a time to live. Two backends are
shipped: Redis (``twolane.state.redis``) and DynamoDB (``twolane.state.dynamodb``); both live beside
Celery's own results, in the same database or table. Serverless Redis and Valkey may lose an
acknowledged write on failover: a lease that guards money belongs in DynamoDB.

``StateStore`` has the operations that are needed, ``open_store`` opens the store of a Celery
application, and ``bounded`` makes keys of a bounded size from any text.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from twolane.errors import ConfigurationError
from twolane.patches.clients import patient_redis
from twolane.state.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from celery import Celery


class StateStore(Protocol):
    """Every method raises ``StoreUnavailableError`` when the store does not answer."""

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        """The live values of ``keys``, absent ones left out: one round trip per 100 keys."""

    def put(self, key: str, value: str, *, ttl_s: float) -> None:
        """Write without a condition."""

    def swap(
        self, key: str, expected: str | None, value: str, *, ttl_s: float, head: int | None = None
    ) -> str | None:
        """Write ``value`` if the live value equals ``expected`` (``None``: if there is none).

        Returns ``None`` when written, otherwise the live value that stood in the way (the empty
        string where it vanished meanwhile). Atomic across execution environments.

        ``head`` is for long values: any two values of this key differ in as many leading
        characters, so that only these are compared, and the rest need not travel.
        """

    def add_many(
        self, values: Mapping[str, str], *, ttl_s: float, side_by_side: bool = False
    ) -> set[str]:
        """Write those of the values that no live value stands in the way of, each by itself, in one
        round trip per 100. Returns the keys that were written; none where the store would need a
        round trip for each, unless these may go ``side_by_side``, on threads.
        """

    def delete(self, key: str, *, expected: str | None = None) -> bool:
        """Remove the key, if ``expected`` is given only while it holds that value."""

    def delete_many(self, expected: Mapping[str, str]) -> None:
        """Remove those keys that hold the given values, each by itself, one round trip per 100."""


#: The longest partition key that DynamoDB takes, in bytes; one longer key makes it refuse a whole
#: BatchGetItem. Redis takes more, but the same keys are used there:
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-partition-sort-keys
LIMIT = 2048

#: How much of a long key stays readable, in characters.
_HEAD = 64


def bounded(key: str) -> str:
    """The key itself where it is 1 to ``LIMIT`` bytes of UTF-8, else, or with a lone surrogate, its
    head and a digest; always the same, and itself once bounded.
    """
    if key.isascii() and 0 < len(key) <= LIMIT:
        return key
    try:
        if 0 < len(key.encode()) <= LIMIT:
            return key
    except UnicodeEncodeError:
        pass
    return digested(key)


def digested(key: str) -> str:
    """The head of a key and a digest of the whole."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    head = key[:_HEAD].encode("ascii", "replace").decode()
    return f"{head}~{digest}"


_REDIS = frozenset({"redis", "rediss", "sentinel", "redis+socket"})
_MEMORY = frozenset({"memory", "cache+memory"})

_memory: dict[str, MemoryStore] = {}


def open_store(app: Celery) -> StateStore:
    """The store beside the application's results: ``redis://``, ``rediss://`` or ``dynamodb://``.

    The variable ``TWOLANE_STATE_STORE`` or the Celery setting ``twolane_state_store`` names another
    one: results in PostgreSQL and leases in DynamoDB, say. ``memory://`` is shared within the
    process. Raises ``ConfigurationError`` where none of them names a database that can hold state.
    Connects on first use only.
    """
    store = find_store(app)
    if store is None:
        raise ConfigurationError(
            "no state store: leases, revocations and idempotency keys need Redis or DynamoDB. Set "
            "Celery's result_backend, or the variable TWOLANE_STATE_STORE where the results are "
            "elsewhere, to redis://… or dynamodb://…"
        )
    return store


def find_store(app: Celery) -> StateStore | None:
    """As ``open_store``, but ``None`` where the settings name none."""
    results = app.conf.result_backend
    # The variable goes before the setting, as Celery's own variables do.
    named = os.environ.get("TWOLANE_STATE_STORE") or app.conf.get("twolane_state_store")
    url = named or results
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
    if named:
        raise ConfigurationError(
            f"the state store {scheme}://… (TWOLANE_STATE_STORE, or Celery's twolane_state_store) "
            "is of no kind that can hold leases; name a redis://…, rediss://… or dynamodb://…"
        )
    return None


#: A list of names that many write at once has as many parts, each with its newest names. A value is
#: read, changed and put back under a condition: the longer it is, the more it costs on DynamoDB (a
#: write unit for each KB begun), and the more writers it has, the more often they do it again.
_PARTS = 16
_TRIES = 20
_MOST_BYTES = 24 * 1024


class NameList:
    """Names with when they were added. Every method raises ``StoreUnavailableError``."""

    def __init__(self, store: StateStore, key: str, *, most: int, ttl_s: float) -> None:
        self._store = store
        self._keys = [f"{key}:{number}" for number in range(_PARTS)]
        self._most = most // _PARTS
        self._ttl_s = ttl_s

    def add(self, names: Iterable[str], now: float, *, keep_s: float = float("inf")) -> None:
        """Add them as the newest; those that were added ``keep_s`` ago are forgotten."""
        parts: dict[str, list[str]] = {}
        for name in names:
            number = zlib.crc32(name.encode(errors="replace")) % _PARTS
            parts.setdefault(self._keys[number], []).append(name)
        for key, some in parts.items():
            self._add(key, some, now, now - keep_s)

    def _add(self, key: str, names: list[str], now: float, oldest: float) -> None:
        for _ in range(_TRIES):
            text = self._store.get_many([key]).get(key)
            listed = _read(text)
            kept = {name: at for name, at in listed.items() if at > oldest and name not in names}
            newest = [*kept.items(), *((name, now) for name in names)][-self._most :]
            # As many of the newest as fit: a name may be as long as a task's id.
            while len(changed := json.dumps(dict(newest))) > _MOST_BYTES and newest:
                newest = newest[len(newest) // 4 + 1 :]
            if self._store.swap(key, text, changed, ttl_s=self._ttl_s) is None:
                return

    def names(self) -> list[str]:
        """All of them, the newest last."""
        found = self._store.get_many(self._keys)
        listed = [pair for text in found.values() for pair in _read(text).items()]
        return [name for name, _ in sorted(listed, key=lambda pair: pair[1])]


def _read(text: str | None) -> dict[str, float]:
    listed: dict[str, float] = json.loads(text) if text else {}
    return listed
