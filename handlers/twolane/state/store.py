"""What twolane remembers between invocations, as the four operations that it needs.

A store holds small JSON texts under string keys, each with a time to live. Two backends are
shipped: Redis (``twolane.state.redis``) and DynamoDB (``twolane.state.dynamodb``); both live beside
Celery's own results, in the same database or table. Serverless Redis and Valkey may lose an
acknowledged write on failover: a lease that guards money belongs in DynamoDB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


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

        ``head`` is for long values: as many leading characters tell any two values of this key
        apart, so that only they are compared, and the expected value need not travel.
        """

    def delete(self, key: str, *, expected: str | None = None) -> bool:
        """Remove the key, if ``expected`` is given only while it holds that value."""
