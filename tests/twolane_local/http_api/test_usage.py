"""https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-request-throttling.html"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from twolane_local.aws.events.http import HttpResponse
from twolane_local.aws.http_api.answers import UsagePlans
from twolane_local.model import ApiKey, RestApi, RestMethod, UsagePlan

if TYPE_CHECKING:
    from twolane_local.clock import Clock


class StandingClock:
    """Only the parts that these tests use."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC, a Tuesday

    def time(self) -> float:
        return self.now


def ask(usage: UsagePlans, plan: UsagePlan, given: str = "value") -> int:
    method = RestMethod(RestApi(keys=(ApiKey("id", "value", plan),)), api_key=True)
    found = usage.check(method, given)
    return found.status if isinstance(found, HttpResponse) else 200


def test_a_rate_fills_the_bucket_again() -> None:
    clock = StandingClock()
    usage, plan = UsagePlans(cast("Clock", clock)), UsagePlan("plan", rate=2.0, burst=3)
    assert [ask(usage, plan) for _ in range(5)] == [200, 200, 200, 429, 429]
    clock.now += 1.0
    assert [ask(usage, plan) for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("period", "days"), [("DAY", (0, 1)), ("WEEK", (5, 6)), ("MONTH", (16, 17))]
)
def test_a_quota_begins_anew_with_its_period(period: str, days: tuple[int, int]) -> None:
    clock = StandingClock()
    usage, plan = UsagePlans(cast("Clock", clock)), UsagePlan("plan", limit=1, period=period)
    begin = clock.now
    assert ask(usage, plan) == 200
    clock.now = begin + days[0] * 86_400
    assert ask(usage, plan) == 429
    clock.now = begin + days[1] * 86_400
    assert ask(usage, plan) == 200


@pytest.mark.parametrize("given", ["", "other"])
def test_a_key_that_is_not_known(given: str) -> None:
    usage = UsagePlans(cast("Clock", StandingClock()))
    assert ask(usage, UsagePlan("plan"), given) == 403
    assert ask(usage, UsagePlan("plan")) == 200
