"""One look-up for a batch: leases, revocations by id, revocations by stamp."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery.worker import state as worker_state

from twolane.errors import MalformedMessageError
from twolane.state.memory import MemoryStore
from twolane.worker.lease import Delivery, LeaseState, lease_key, write_lease
from twolane.worker.lookup import Lookup, Revocation, revoked_key, stamp_key, write_revocation
from twolane.worker.records import Run, open_run, parse_event

from .conftest import body, event, record

if TYPE_CHECKING:
    from collections.abc import Iterable


class Counting(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(keys)
        self.asked.append(wanted)
        return super().get_many(wanted)


class Hands:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(*bodies: str) -> list[Run]:
    records = parse_event(event(*(record(text) for text in bodies)))
    return [open_run(one, lambda text: text) for one in records]


def lease(state: LeaseState = LeaseState.DONE) -> str:
    return write_lease(state, Delivery("h", "m", "p"), since=1.0, until=2.0).text


def test_a_batch_is_one_question() -> None:
    store = Counting()
    store.put(lease_key({"task": "t"}, "a"), lease(), ttl_s=60)
    store.put(revoked_key("b"), write_revocation(Revocation()), ttl_s=60)
    batch = opened(body("t", task_id="a"), body("t", task_id="b"), body("t", task_id="c"))
    lookup = Lookup(store, Hands())
    lookup.begin(batch)
    assert len(store.asked) == 1
    states = [found and found.state for found in map(lookup.lease, batch)]
    assert states == [LeaseState.DONE, None, None]
    assert "b" in worker_state.revoked
    assert "a" not in worker_state.revoked


def test_a_retrys_predecessor_is_looked_up_too() -> None:
    store = Counting()
    store.put(lease_key({"task": "t"}, "a"), lease(LeaseState.RUNNING), ttl_s=60)
    (retry,) = opened(body("t", task_id="a", retries=1))
    lookup = Lookup(store, Hands())
    lookup.begin([retry])
    prior = lookup.prior_lease(retry)
    assert prior is not None
    assert prior.state is LeaseState.RUNNING
    assert lookup.lease(retry) is None


def test_revoked_stamps_reach_celery() -> None:
    store = Counting()
    store.put(stamp_key("order", "42"), write_revocation(Revocation()), ttl_s=60)
    stamped: dict[str, Any] = {"stamped_headers": ["order"], "stamps": {"order": ["41", "42"]}}
    lookup = Lookup(store, Hands())
    for _ in range(2):
        lookup.begin(opened(body("t", task_id="a", **stamped)))
    assert worker_state.revoked_stamps == {"order": ["42"]}


def test_a_long_batch_asks_again_for_what_is_left() -> None:
    store, clock = Counting(), Hands()
    clock.now = 1_000.0
    batch = opened(body("t", task_id="a"), body("t", task_id="b"))
    lookup = Lookup(store, clock)
    lookup.begin(batch)
    clock.now += 0.9
    lookup.refresh(batch[1:])
    assert len(store.asked) == 1
    clock.now += 0.2
    store.put(revoked_key("b"), write_revocation(Revocation()), ttl_s=60)
    lookup.refresh(batch[1:])
    assert len(store.asked) == 2
    assert not any(key.endswith(":a") for key in store.asked[1])
    assert "b" in worker_state.revoked


def test_nothing_is_asked_for_what_cannot_be_read() -> None:
    store = Counting()
    Lookup(store, Hands()).begin(opened("no json", json.dumps({"properties": {}})))
    assert store.asked == []


def test_without_a_store_there_is_nothing_to_know() -> None:
    (one,) = opened(body("t", task_id="a"))
    lookup = Lookup(None, Hands())
    lookup.begin([one])
    assert lookup.lease(one) is None
    with lookup.store_at_hand():
        pass


@pytest.mark.parametrize("problem", [MalformedMessageError("gone"), ValueError("any")])
def test_a_claim_that_cannot_be_redeemed_is_that_records_problem(problem: Exception) -> None:
    def redeem(_: str) -> str:
        raise problem

    (one,) = parse_event(event(record("{}")))
    found = open_run(one, redeem)
    assert found.problem is problem
    assert (found.envelope, found.task_id, found.lease_key) == (None, None, None)


def test_a_malformed_body_is_that_records_problem() -> None:
    (found,) = opened("no json")
    assert isinstance(found.problem, MalformedMessageError)
