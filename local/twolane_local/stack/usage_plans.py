"""API keys, and the usage plans through which they may call a REST API's stage.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from twolane_local.model import ApiKey, UsagePlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.stack.rest_resources import OfApi


def keys_of(own: OfApi, stage: str) -> tuple[ApiKey, ...]:
    """The keys that open a stage. A key that no plan has for it opens nothing."""
    plans = dict(own.every("UsagePlan"))
    links = [item for _, item in own.every("UsagePlanKey")]
    found = []
    for name, key in own.every("ApiKey"):
        # CloudFormation's default is a key that is not enabled.
        if str(key.get("Enabled", False)).lower() != "true":
            continue
        value = str(key.get("Value") or hashlib.sha256(f"key {name}".encode()).hexdigest()[:40])
        of_plans = [
            plans.get(str(link.get("UsagePlanId"))) for link in links if link["KeyId"] == name
        ]
        plan = next((each for each in of_plans if each and _covers(each, own.id, stage)), None)
        if plan is not None:
            found.append(ApiKey(name, value, _plan(plan, name)))
    return tuple(found)


def _covers(plan: Mapping[str, Any], api: str, stage: str) -> bool:
    return any((item.get("ApiId"), item.get("Stage")) == (api, stage) for item in _stages(plan))


def _stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan.get("ApiStages") or ()


def _plan(plan: Mapping[str, Any], key: str) -> UsagePlan:
    throttle, quota = plan.get("Throttle") or {}, plan.get("Quota") or {}
    rate, limit = throttle.get("RateLimit"), quota.get("Limit")
    return UsagePlan(
        name=str(plan.get("UsagePlanName") or key),
        rate=None if rate is None else float(rate),
        burst=int(throttle.get("BurstLimit") or 0),
        limit=None if limit is None else int(limit),
        period=str(quota.get("Period", "DAY")),
    )
