"""API keys at the door of a REST API: known or not, too fast, too many.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twolane_local.gateway.rest_answers import fault

if TYPE_CHECKING:
    from twolane_local.clock import Clock
    from twolane_local.events.http import HttpResponse
    from twolane_local.model import ApiKey, RestMethod, UsagePlan


class Usage:
    """Counts what each key has asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str], int] = {}
        #: Tokens in a key's bucket, and when that was.
        self._buckets: dict[str, tuple[float, float]] = {}

    def check(self, method: RestMethod, given: str) -> ApiKey | HttpResponse:
        """The key of this value, or why it may not call. It is counted."""
        keys = method.api.keys
        key = next((each for each in keys if given and each.value == given), None)
        if key is None:
            known = f"it takes x-api-key: {keys[0].value}" if keys else "no usage plan has a key"
            return fault("INVALID_API_KEY", f"{'an unknown' if given else 'no'} API key; {known}")
        if not self._within_rate(key):
            return fault("THROTTLED", f"{key.plan.name} allows {key.plan.rate:g} requests/s")
        period = (key.id, _period(key.plan, self._clock.time()))
        count = self._counts.get(period, 0)
        if key.plan.limit is not None and count >= key.plan.limit:
            why = f"{key.plan.name} allows {key.plan.limit} requests in a {key.plan.period.lower()}"
            return fault("QUOTA_EXCEEDED", why)
        self._counts[period] = count + 1
        return key

    def _within_rate(self, key: ApiKey) -> bool:
        if key.plan.rate is None:
            return True
        now, most = self._clock.time(), max(float(key.plan.burst), 1.0)
        tokens, since = self._buckets.get(key.id, (most, now))
        tokens = min(most, tokens + (now - since) * key.plan.rate)
        allowed = tokens >= 1.0
        self._buckets[key.id] = (tokens - allowed, now)
        return allowed


def _period(plan: UsagePlan, now: float) -> str:
    """Names the period of a quota: it begins anew at midnight UTC."""
    form = {"WEEK": "%G-%V", "MONTH": "%Y-%m"}.get(plan.period.upper(), "%Y-%m-%d")
    return time.strftime(form, time.gmtime(now))
