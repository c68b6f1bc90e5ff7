"""Fair queues: who is noisy, what comes first, and that nothing else changes."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twolane_local.aws.sqs.queue import FairOrder, StandardOrder
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.journal import Journal

from ..conftest import HandClock  # noqa: TID252


class Tenants:
    """A standard queue, and the groups of what is received."""

    def __init__(self, queues, clock):
        self.queues, self.clock, self.held = queues, clock, {}
        queues.create("q", {"VisibilityTimeout": "3600"})

    def send(self, group, number=1, **more):
        for _ in range(number):
            self.queues.send("q", NewMessage("x", group_id=group, **more))

    def receive(self, number=1):
        """Receive one by one; the groups in order."""
        groups = []
        for _ in range(number):
            for one in self.queues.receive("q", 1):
                groups.append(one.message.group_id)
                self.held.setdefault(one.message.group_id, []).append(one.receipt_handle)
        return "".join(group or "-" for group in groups)

    def finish(self, group, number=None):
        handles = self.held.get(group, [])
        for handle in handles[:number]:
            self.queues.delete("q", handle)
        del handles[:number]

    @property
    def noisy(self):
        return set(self.queues.refreshed("q").noisy_tenants())


@pytest.fixture
def tenants(queues, clock):
    return Tenants(queues, clock)


def test_messages_of_quiet_tenants_come_as_they_were_sent(tenants):
    for group in "abcab":
        tenants.send(group)
    assert tenants.receive(5) == "abcab"
    assert tenants.noisy == set()


def test_with_thirty_in_flight_and_more_than_a_tenth_of_all_a_tenant_waits(tenants):
    tenants.send("a", 40)
    tenants.send("b", 2)
    assert tenants.receive(29) == "a" * 29
    assert tenants.noisy == set()
    assert tenants.receive(4) == "abba"
    assert tenants.noisy == {"a"}


def test_a_tenth_of_the_messages_in_flight_is_not_more_than_a_tenth(tenants):
    tenants.send("a", 30)
    for number in range(27):
        tenants.send(f"b{number}", 10)
    tenants.send("a")
    tenants.send("c")
    tenants.receive(300)
    assert tenants.receive(2) == "ac"


def test_messages_without_a_group_are_never_noisy(tenants):
    tenants.send(None, 100)
    tenants.send("a")
    assert tenants.receive(101) == "-" * 100 + "a"
    assert tenants.noisy == set()


def test_messages_without_a_group_come_before_a_noisy_tenants(tenants):
    tenants.send("a", 100)
    tenants.send(None, 3)
    assert tenants.receive(34) == "a" * 30 + "---a"


def test_few_slow_messages_are_noisy_by_their_processing_time(tenants, clock):
    """Far from thirty in flight: what counts is the consumers' time."""
    tenants.send("slow", 5)
    tenants.receive()
    clock.now += 20
    tenants.finish("slow")
    for name in "bcdefghijk":
        tenants.send(name)
    assert tenants.receive(11) == "bcdefghijk" + "slow"
    assert tenants.noisy == {"slow"}


def test_tenants_with_less_than_a_tenth_of_the_processing_time_each_are_quiet(tenants, clock):
    for name in "abcdefghijk" * 2:
        tenants.send(name)
    assert tenants.receive(11) == "abcdefghijk"
    clock.now += 20
    assert tenants.noisy == set()
    assert tenants.receive(11) == "abcdefghijk"


def test_of_several_noisy_tenants_the_one_with_the_fewest_in_flight_comes_first(tenants):
    tenants.send("a", 40)
    tenants.send("b", 40)
    assert tenants.receive(64) == "a" * 30 + "b" * 30 + "abab"
    assert tenants.noisy == {"a", "b"}
    tenants.finish("b", 3)
    assert tenants.receive(5) == "bbbab"


def test_a_noisy_tenant_gets_what_is_left_of_a_batch(tenants):
    tenants.send("a", 100)
    tenants.receive(30)
    tenants.send("b", 2)
    groups = [one.message.group_id for one in tenants.queues.receive("q", 10)]
    assert groups == ["b"] * 2 + ["a"] * 8


def test_a_noisy_tenant_stays_so_when_its_messages_are_done(tenants, clock):
    tenants.send("a", 100)
    tenants.receive(40)
    clock.now += 1
    tenants.finish("a")
    tenants.send("b")
    assert tenants.receive(2) == "ba"


def test_it_is_quiet_again_when_its_backlog_is_gone(tenants, clock):
    tenants.send("a", 31)
    assert tenants.receive(30) == "a" * 30
    clock.now += 1
    assert tenants.noisy == {"a"}
    tenants.receive()
    assert tenants.noisy == set()
    tenants.finish("a")
    tenants.send("a")
    tenants.send("b")
    assert tenants.receive(2) == "ab"


def test_it_is_quiet_again_five_minutes_after_its_last_message_in_flight(tenants, clock):
    tenants.send("a", 100)
    tenants.receive(31)
    clock.now += 10
    tenants.finish("a", 1)
    assert tenants.noisy == {"a"}
    tenants.finish("a")
    clock.now += 299
    assert tenants.noisy == {"a"}
    clock.now += 1
    assert tenants.noisy == set()
    tenants.send("b")
    assert tenants.receive(2) == "aa"  # as they were sent


def test_it_is_quiet_again_when_others_have_used_the_consumers(tenants, clock):
    tenants.send("a", 100)
    tenants.receive(30)
    clock.now += 1
    tenants.finish("a")
    assert tenants.noisy == {"a"}
    for number in range(40):
        tenants.send(f"b{number}")
    tenants.receive(40)
    clock.now += 120
    assert tenants.noisy == set()


def test_what_comes_back_goes_to_the_end_of_its_tenant(tenants, clock):
    tenants.send("a", 2)
    first = tenants.queues.receive("q", 1)[0]
    tenants.queues.change_visibility("q", first.receipt_handle, 0)
    bodies = [one.message.id for one in tenants.queues.receive("q", 2)]
    assert bodies[1] == first.message.id


def test_a_timeout_counts_as_the_end_of_processing(tenants, clock):
    tenants.send("a", 100)
    tenants.receive(30)
    clock.now += 3601
    tenants.send("b")
    assert tenants.receive(1) == "b"
    clock.now += 301
    assert tenants.noisy == set()


def test_a_purge_forgets_tenants(tenants):
    tenants.send("a", 100)
    tenants.receive(30)
    assert tenants.noisy == {"a"}
    tenants.queues.purge("q")
    assert tenants.noisy == set()
    tenants.send("a")
    tenants.send("b")
    assert tenants.receive(2) == "ab"


def test_a_queue_becomes_fair_with_its_first_group(tenants):
    tenants.send(None, 3)
    tenants.receive(1)
    order = tenants.queues.get("q")._order
    assert isinstance(order, StandardOrder)
    tenants.send("a", 31)
    order = tenants.queues.get("q")._order
    assert isinstance(order, FairOrder)
    assert tenants.receive(32) == "--" + "a" * 30
    assert tenants.noisy == {"a"}


def test_tenants_that_are_done_leave_no_trace(tenants):
    for number in range(1_000):
        tenants.send(f"t{number}")
        tenants.receive()
        tenants.finish(f"t{number}")
    order = tenants.queues.get("q")._order
    assert not order._tenants
    assert len(order._quiet) <= 1


def test_dead_letters_and_what_is_redriven_keep_their_tenant(queues, clock):
    arn = queues.create("dead").arn
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "1"}}'
    queues.create("q", {"VisibilityTimeout": "5", "RedrivePolicy": policy})
    queues.send("q", NewMessage("x", group_id="a"))
    queues.receive("q")
    clock.now += 5
    assert queues.receive("q") == []
    assert queues.receive("dead", visibility_s=0)[0].message.group_id == "a"
    moved = queues.redrive_one("dead", None)
    assert moved is not None
    assert queues.receive("q")[0].message.group_id == "a"


def test_depth_costs_nothing(tenants):
    """A receive beside 5,000 messages of a noisy tenant takes less than one pass over them."""
    tenants.send("a", 5_000)
    tenants.receive(30)
    passes, receives = [], []
    for number in range(10):
        started = time.perf_counter()
        assert sum(entry.state == "visible" for entry in tenants.queues.get("q")) == 4_970
        passes.append(time.perf_counter() - started)
        tenants.send("b")
        started = time.perf_counter()
        assert tenants.receive() == "b", number
        receives.append(time.perf_counter() - started)
    assert min(receives) < min(passes)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["a", "b", "c", None]), st.integers(1, 40)),
        st.tuples(st.just("delayed"), st.sampled_from(["a", "b", None]), st.integers(1, 5)),
        st.tuples(st.just("receive"), st.integers(1, 10), st.sampled_from([0, 3, 600])),
        st.tuples(st.just("delete"), st.integers(0, 99), st.none()),
        st.tuples(st.just("return"), st.integers(0, 99), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([0.5, 4, 301, 700]), st.none()),
        st.tuples(st.just("purge"), st.none(), st.none()),
    ),
    max_size=60,
)  # fmt: skip


@given(steps)
def test_whatever_happens_no_message_is_lost_doubled_or_kept_back(steps):
    """The model: a message is visible, invisible until a time, or gone. A receive returns as many
    visible messages as it may; which of them is the queue's choice, except that no message of a
    noisy tenant comes while one of a tenant with nothing in flight and no history waits.
    """
    clock = HandClock()
    queues = QueueService(clock, Journal(clock, size=10), rng=random.Random(5))
    queues.create("q")
    until: dict[str, float] = {}  # by message id: when it is visible
    group_of: dict[str, str | None] = {}
    handles: dict[str, str] = {}
    used: set[str | None] = set()
    for step, what, how in steps:
        now = clock.time()
        if step == "send":
            for _ in range(how):
                sent = queues.send("q", NewMessage("x", group_id=what))
                until[sent.id], group_of[sent.id] = now, what
        elif step == "delayed":
            sent = queues.send("q", NewMessage("x", group_id=what, delay_s=how))
            until[sent.id], group_of[sent.id] = now + how, what
        elif step == "receive":
            visible = {one for one, at in until.items() if at <= now}
            noisy = set(queues.refreshed("q").noisy_tenants())
            received = queues.receive("q", what, visibility_s=how)
            ids = [one.message.id for one in received]
            assert len(ids) == min(what, len(visible)) == len(set(ids))
            assert set(ids) <= visible
            fresh = [one for one in visible - set(ids) if group_of[one] not in used]
            if fresh:
                assert not noisy & {group_of[one] for one in ids}
            for one in received:
                until[one.message.id] = now + how
                handles[one.message.id] = one.receipt_handle
                used.add(group_of[one.message.id])
        elif step in {"delete", "return"} and handles:
            one = sorted(handles)[what % len(handles)]
            handle = handles.pop(one)
            if step == "delete":
                assert queues.delete("q", handle)
                del until[one]
            elif until[one] > now:
                queues.change_visibility("q", handle, 0)
                until[one] = now
        elif step == "wait":
            clock.now += what
        elif step == "purge" and queues.get("q").purged_at is None:
            queues.purge("q")
            until.clear()
            handles.clear()
        counted = queues.refreshed("q")
        assert len(counted) == len(until)
        assert counted.count("visible") == sum(at <= clock.time() for at in until.values())
        assert counted.ready() == (counted.count("visible") > 0)
    clock.now += 1_000
    left = Counter(one.message.id for one in drained(queues))
    assert left == Counter(list(until))


def drained(queues):
    while received := queues.receive("q", 10, visibility_s=600):
        yield from received
