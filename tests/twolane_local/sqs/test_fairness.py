"""Fair queues: who is noisy, what comes first, and that nothing else changes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twolane_local.aws.sqs.fairness import FairOrder
from twolane_local.aws.sqs.queue import StandardOrder
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
        return set(self.queues.noisy_groups("q"))


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


def test_it_stays_so_also_when_they_took_no_time(tenants):
    tenants.send("a", 100)
    tenants.receive(31)
    tenants.finish("a")
    assert tenants.noisy == {"a"}


def test_with_its_backlog_its_processing_time_is_forgotten(tenants, clock):
    tenants.send("a", 2)
    tenants.receive()
    clock.now += 20
    assert tenants.noisy == {"a"}
    tenants.receive()
    tenants.send("a")
    tenants.send("b")
    assert tenants.receive(2) == "ab"


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


def test_what_comes_back_has_the_place_of_its_receive(queues):
    """Before what was sent since then, and behind what was there."""
    queues.create("q")
    sent = [queues.send("q", NewMessage("x", group_id=group)).id for group in "aba"]
    first = queues.receive("q", 1)[0]
    sent.append(queues.send("q", NewMessage("x", group_id="a")).id)
    queues.change_visibility("q", first.receipt_handle, 0)
    received = [one.message.id for one in queues.receive("q", 4)]
    assert received == [sent[1], sent[2], sent[0], sent[3]]


def test_what_comes_back_may_be_the_first_of_all(queues):
    queues.create("q")
    sent = [queues.send("q", NewMessage("x", group_id="a")).id]
    first = queues.receive("q", 1)[0]
    sent += [queues.send("q", NewMessage("x", group_id=group)).id for group in "ba"]
    assert queues.refreshed("q").peek().message.id == sent[1]
    queues.change_visibility("q", first.receipt_handle, 0)
    assert [one.message.id for one in queues.receive("q", 3)] == sent


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


def test_what_was_in_flight_before_the_first_group_counts(tenants):
    tenants.send(None, 300)
    tenants.receive(300)
    tenants.send("a", 31)
    tenants.receive(30)
    assert tenants.noisy == set()
    tenants.finish(None)
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


def test_the_api_takes_a_group_and_returns_it(call, queues):
    queues.create("q")
    url = "http://127.0.0.1:4566/123456789012/q"
    call("SendMessage", QueueUrl=url, MessageBody="x", MessageGroupId="a")
    entries = [{"Id": "1", "MessageBody": "x", "MessageGroupId": "b"}]
    call("SendMessageBatch", QueueUrl=url, Entries=entries)
    for name in ("MessageGroupId", "All"):
        answer = call(
            "ReceiveMessage", QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0,
            MessageSystemAttributeNames=[name],
        )  # fmt: skip
        assert [one["Attributes"]["MessageGroupId"] for one in answer["Messages"]] == ["a", "b"]


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


class History(RuleBasedStateMachine):
    """Random senders and receivers, beside a model that has no tenants.

    In the model, a message is visible from a time on, or gone, and a receive returns as many of the
    visible ones as it may. Fairness chooses which; it never keeps one back.
    """

    def __init__(self):
        super().__init__()
        self.clock = HandClock()
        self.queues = QueueService(self.clock, Journal(self.clock, size=10), rng=random.Random(5))
        self.queues.create("q")
        self.visible_at, self.group_of, self.handles, self.served = {}, {}, {}, set()

    @rule(group=st.sampled_from(["a", "b", "c", None]), number=st.integers(1, 40),
          delay=st.sampled_from([0, 0, 5]))  # fmt: skip
    def send(self, group, number, delay):
        for _ in range(number):
            sent = self.queues.send("q", NewMessage("x", group_id=group, delay_s=delay))
            self.visible_at[sent.id] = self.clock.now + delay
            self.group_of[sent.id] = group

    @rule(limit=st.integers(1, 10), timeout=st.sampled_from([0, 3, 600, 600]))
    def receive(self, limit, timeout):
        visible = {one for one, at in self.visible_at.items() if at <= self.clock.now}
        noisy = set(self.queues.noisy_groups("q"))
        received = self.queues.receive("q", limit, visibility_s=timeout)
        ids = {one.message.id for one in received}
        assert len(received) == len(ids) == min(limit, len(visible))
        assert ids <= visible
        if any(self.group_of[one] not in self.served for one in visible - ids):
            assert not noisy & {self.group_of[one] for one in ids}
        for one in received:
            self.visible_at[one.message.id] = self.clock.now + timeout
            self.handles[one.message.id] = one.receipt_handle
            self.served.add(self.group_of[one.message.id])

    def held(self, which):
        return sorted(self.handles)[which % len(self.handles)]

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 99))
    def delete(self, which):
        one = self.held(which)
        assert self.queues.delete("q", self.handles.pop(one))
        del self.visible_at[one]

    @precondition(lambda self: self.handles)
    @rule(which=st.integers(0, 99))
    def give_back(self, which):
        one = self.held(which)
        if self.visible_at[one] > self.clock.now:
            self.queues.change_visibility("q", self.handles.pop(one), 0)
            self.visible_at[one] = self.clock.now

    @rule(seconds=st.sampled_from([0.5, 4, 301, 700]))
    def wait(self, seconds):
        self.clock.now += seconds

    @precondition(lambda self: self.queues.get("q").purged_at is None)
    @rule()
    def purge(self):
        self.queues.purge("q")
        self.visible_at.clear()
        self.handles.clear()

    @invariant()
    def counts_are_the_models(self):
        queue = self.queues.refreshed("q")
        visible = sum(at <= self.clock.now for at in self.visible_at.values())
        assert (len(queue), queue.count("visible")) == (len(self.visible_at), visible)
        assert queue.ready() == (visible > 0)

    def teardown(self):
        self.clock.now += 1_000
        left = []
        while received := self.queues.receive("q", 10, visibility_s=600):
            left += [one.message.id for one in received]
        assert sorted(left) == sorted(self.visible_at)


TestWhateverHappensNoMessageIsLostDoubledOrKeptBack = History.TestCase
TestWhateverHappensNoMessageIsLostDoubledOrKeptBack.settings = settings(
    max_examples=25, stateful_step_count=40
)
