from __future__ import annotations

import json
from typing import Any

import pytest

from twolane.state.memory import MemoryStore
from twolane.worker.lease import (
    BODY_OF,
    CHORD_ID,
    DEDUPLICATION_S,
    Delivery,
    Lease,
    Leases,
    LeaseState,
    delivery_of,
    lease_key,
    prior_key,
    read_lease,
    write_lease,
)

FIRST = Delivery("receipt-1", "m1", "p1")
AGAIN = Delivery("receipt-2", "m1", "p1")
COPY = Delivery("receipt-3", "m2", "p1")
OTHER = Delivery("receipt-4", "m3", "p2")
KEEP_S = 86_400.0


class Hands:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def store(clock: Hands) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def leases(store: MemoryStore, clock: Hands) -> Leases:
    return Leases(store, clock, KEEP_S)


def running(delivery: Delivery, clock: Hands, lasts_s: float = 60.0) -> Lease:
    return write_lease(
        LeaseState.RUNNING, delivery, since=clock.now, until=clock.now + lasts_s, worker="w1"
    )


#: The digest of the name that these tasks have: none.
T = lease_key({}, "t")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"retries": 0, "replaced_task_nesting": 0, "parent_id": None}, T),
        ({"retries": 2}, f"{T}:2:0"),
        ({"replaced_task_nesting": 1}, f"{T}:0:1"),
        ({"parent_id": "p"}, f"{T}<p"),
        ({"retries": 1, "parent_id": "p"}, f"{T}:1:0<p"),
        # A member of a group has its place in it; a chord's body has not, or says what it is.
        ({"parent_id": "p", "group": "g", "group_index": 0}, f"{T}<p"),
        ({"parent_id": "p", "group": "g", "group_index": None}, f"{T}<g"),
        ({"parent_id": "p", "group": "g", "group_index": 0, BODY_OF: True}, f"{T}<g"),
        ({"parent_id": "p", "group": "x", "group_index": 0, BODY_OF: 1.5, CHORD_ID: "g"}, f"{T}<g"),
        ({"parent_id": "p", "retries": 1, BODY_OF: 1.5}, f"{T}:1:0"),
    ],
)
def test_each_piece_of_work_has_its_key(headers: dict[str, Any], key: str) -> None:
    assert lease_key(headers, "t") == key
    assert T.startswith("twolane:lease:t:")


def test_a_task_of_another_name_is_other_work() -> None:
    long = lease_key({"task": "shop." * 500 + "pay"}, "t")
    assert lease_key({"task": "shop.pay"}, "t") != lease_key({"task": "shop.mail"}, "t")
    assert len(long) == len(lease_key({"task": "x"}, "t")) == len(T)


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"retries": 0}, None),
        ({"retries": 1, "parent_id": "t"}, T),
        ({"retries": 2, "parent_id": "t"}, f"{T}:1:0<t"),
        ({"retries": 1, "parent_id": "p"}, f"{T}<p"),
        ({"retries": 1, "parent_id": "t", BODY_OF: 1.5}, T),
        ({"retries": 2, "parent_id": "t", BODY_OF: 1.5}, f"{T}:1:0"),
    ],
)
def test_a_retry_knows_the_attempt_before_it(headers: dict[str, Any], key: str | None) -> None:
    assert prior_key(headers, "t") == key


def test_a_body_counts_as_sent_when_its_header_task_was(leases: Leases, clock: Hands) -> None:
    """The other task of the header came back hours later, and completed its chord again."""
    ended = write_lease(LeaseState.DONE, FIRST, since=clock.now, until=clock.now + KEEP_S)
    sent = clock.now - 10
    clock.now += 3 * 3600
    copy = delivery_of("r9", "m9", {"delivery_tag": "p9"}, first_s=clock.now, origins=[sent])
    assert leases.obstacle(ended, copy) == ended
    # A frozen chord that is started again, under the same ids, is a chord of its own.
    later = delivery_of(
        "r9", "m9", {"delivery_tag": "p9"}, first_s=clock.now, origins=[clock.now - 9]
    )
    assert leases.obstacle(ended, later) is None
    for unknown in (None, True, "x"):
        plain = delivery_of("r9", "m9", {}, first_s=clock.now, origins=[unknown])
        assert leases.obstacle(ended, plain) is None


def test_a_delivery_is_named_by_its_receipt() -> None:
    one = delivery_of("AQEB…", "m1", "d1")
    assert (one.message, one.publish) == ("m1", "d1")
    assert (
        one.holder == delivery_of("AQEB…", "m1", None).holder != delivery_of("x", "m1", None).holder
    )
    assert delivery_of("x", "m1", None).publish == "m1"


def test_a_lease_is_stored_as_json(clock: Hands) -> None:
    lease = running(FIRST, clock)
    assert json.loads(lease.text) == {
        "state": "running",
        "holder": "receipt-1",
        "message": "m1",
        "publish": "p1",
        "since": 1000.0,
        "until": 1060.0,
        "worker": "w1",
    }
    assert read_lease(lease.text) == lease
    assert read_lease(None) is None


def test_only_one_takes_a_lease(leases: Leases, clock: Hands) -> None:
    mine, theirs = running(FIRST, clock), running(AGAIN, clock)
    assert leases.take("k", None, mine) is None
    assert leases.take("k", None, theirs) == mine


def test_a_lease_that_ran_out_is_taken_over(
    leases: Leases, store: MemoryStore, clock: Hands
) -> None:
    old = running(FIRST, clock, lasts_s=10)
    assert leases.take("k", None, old) is None
    store.put("k", old.text, ttl_s=100)  # as a store that forgets late
    clock.now += 11
    new = running(AGAIN, clock)
    assert leases.take("k", None, new) is None
    # The one that was frozen meanwhile cannot end or release what is not its own any more.
    assert leases.end("k", old, LeaseState.DONE) is False
    leases.release("k", old)
    assert store.get_many(["k"]) == {"k": new.text}
    assert leases.end("k", new, LeaseState.DONE) is True


@pytest.mark.parametrize(
    ("delivery", "after_s", "stands"),
    [
        (AGAIN, 1, True),
        (AGAIN, KEEP_S - 1, True),
        (COPY, KEEP_S - 1, True),
        (OTHER, DEDUPLICATION_S - 1, True),
        (OTHER, DEDUPLICATION_S + 1, False),
    ],
)
def test_finished_work_stands_in_the_way(  # noqa: PLR0917 - three fixtures and three values
    leases: Leases,
    store: MemoryStore,
    clock: Hands,
    delivery: Delivery,
    after_s: float,
    stands: bool,
) -> None:
    held = running(FIRST, clock)
    leases.take("k", None, held)
    leases.end("k", held, LeaseState.DONE)
    clock.now += after_s
    seen = read_lease(store.get_many(["k"])["k"])
    assert (leases.obstacle(seen, delivery) is not None) is stands
    wanted = running(delivery, clock)
    assert (leases.take("k", seen if not stands else None, wanted) is None) is not stands


@pytest.mark.parametrize(
    ("first_s", "stands"),
    [(1_000 + DEDUPLICATION_S - 1, True), (1_000 + DEDUPLICATION_S + 1, False), (900.0, True)],
)
def test_what_was_a_copy_when_it_came_first_is_one_for_ever(
    leases: Leases, clock: Hands, first_s: float, stands: bool
) -> None:
    """It was acknowledged as a duplicate, and SQS did not delete it: it comes again, late."""
    done = write_lease(LeaseState.DONE, FIRST, since=clock.now, until=clock.now + KEEP_S)
    clock.now += 10_000
    late = Delivery("receipt-9", "m3", "p2", sent_s=950.0, first_s=first_s)
    assert (leases.obstacle(done, late) is not None) is stands


def test_rejected_work_stands_in_its_own_message_s_way(leases: Leases, clock: Hands) -> None:
    rejected = write_lease(LeaseState.REJECTED, FIRST, since=clock.now, until=clock.now + 9)
    assert leases.obstacle(rejected, AGAIN) == rejected
    assert leases.obstacle(rejected, COPY) is None  # redriven: a new message


def test_running_work_stands_in_others_way(leases: Leases, clock: Hands) -> None:
    lease = running(FIRST, clock, lasts_s=5)
    assert leases.obstacle(lease, FIRST) is None
    assert leases.obstacle(lease, AGAIN) == lease
    assert leases.obstacle(lease, AGAIN, only_running=True) == lease
    clock.now += 5
    assert leases.obstacle(lease, AGAIN) is None
    done = write_lease(LeaseState.DONE, FIRST, since=clock.now, until=clock.now + 9)
    assert leases.obstacle(done, AGAIN, only_running=True) is None


def test_released_work_can_be_taken_at_once(leases: Leases, clock: Hands) -> None:
    held = running(FIRST, clock)
    leases.take("k", None, held)
    leases.release("k", held)
    assert leases.take("k", None, running(AGAIN, clock)) is None


def test_a_lease_that_ran_out_with_nobody_taking_it_is_ended_all_the_same() -> None:
    """What an environment did while it was held up shall not be done again."""
    now = [1000.0]
    store = MemoryStore(lambda: now[0])
    leases = Leases(store, lambda: now[0], keep_s=3600)
    held = write_lease(LeaseState.RUNNING, Delivery("h", "m", "p"), since=1000, until=1060)
    assert leases.take("k", None, held) is None
    now[0] = 2000.0
    assert store.get_many(["k"]) == {}
    assert leases.end("k", held, LeaseState.DONE)
    ended = read_lease(store.get_many(["k"])["k"])
    assert ended is not None
    assert ended.state is LeaseState.DONE


@pytest.mark.parametrize(
    ("sent_s", "stands"),
    [(900.0, True), (1000.0, True), (1000.5, False)],
)
def test_a_copy_of_a_refused_message_is_refused_but_a_redriven_one_runs(
    sent_s: float, stands: bool
) -> None:
    leases = Leases(MemoryStore(lambda: 1100.0), lambda: 1100.0, keep_s=3600)
    refused = write_lease(LeaseState.REJECTED, FIRST, since=1000, until=5000)
    copy = Delivery("receipt-9", "another message", FIRST.publish, sent_s)
    assert (leases.obstacle(refused, copy) is not None) is stands
