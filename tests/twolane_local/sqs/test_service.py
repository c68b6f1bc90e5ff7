from __future__ import annotations

import asyncio
import random
import threading

import pytest

from twolane_local.aws.sqs.errors import (
    InvalidParameterValueError,
    OverLimitError,
    QueueDoesNotExistError,
    ReceiptHandleIsInvalidError,
)
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.clock.virtual import VirtualClock, run_virtual
from twolane_local.journal import Journal

DLQ = "arn:aws:sqs:us-east-1:123456789012:dead"


def bodies(received):
    return [one.message.body for one in received]


def counts(queues, name="q"):
    queue = queues.refreshed(name)
    return {state: queue.count(state) for state in ("visible", "delayed", "in flight")}


def test_a_received_message_is_invisible_until_its_timeout_and_then_counts_a_receive(queues, clock):
    queues.create("q", {"VisibilityTimeout": "30"})
    sent = queues.send("q", NewMessage("hello"))
    first = queues.receive("q")[0]
    assert (first.message, first.receive_count) == (sent, 1)
    assert first.first_received_at == clock.now
    assert queues.receive("q") == []
    assert counts(queues) == {"visible": 0, "delayed": 0, "in flight": 1}
    clock.now += 29.999
    assert queues.receive("q") == []
    clock.now += 0.001
    second = queues.receive("q")[0]
    assert second.receive_count == 2
    assert second.first_received_at == first.first_received_at
    assert second.receipt_handle != first.receipt_handle


def test_a_deleted_message_is_gone(queues):
    queues.create("q")
    queues.send("q", NewMessage("hello"))
    handle = queues.receive("q")[0].receipt_handle
    assert queues.delete("q", handle)
    assert not queues.delete("q", handle), "a second delete succeeds and does nothing"
    assert len(queues.refreshed("q")) == 0


def test_only_the_most_recent_receipt_handle_deletes(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("hello"))
    old = queues.receive("q")[0].receipt_handle
    clock.now += 30
    new = queues.receive("q")[0].receipt_handle
    assert not queues.delete("q", old)
    assert queues.delete("q", new)


def test_a_handle_still_deletes_while_its_message_is_visible_again(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("a"))
    queues.send("q", NewMessage("b"))
    handle = queues.receive("q")[0].receipt_handle
    clock.now += 30
    assert queues.delete("q", handle)
    assert bodies(queues.receive("q", 10)) == ["b"]


@pytest.mark.parametrize("handle", ["", "nonsense", "e30=", "%%%"])
def test_what_is_no_receipt_handle_is_refused(queues, handle):
    queues.create("q")
    with pytest.raises(ReceiptHandleIsInvalidError):
        queues.delete("q", handle)


def test_the_handle_of_another_queue_is_refused(queues):
    queues.create("q")
    queues.create("other")
    queues.send("other", NewMessage("x"))
    handle = queues.receive("other")[0].receipt_handle
    with pytest.raises(ReceiptHandleIsInvalidError):
        queues.delete("q", handle)


def test_a_delayed_message_comes_when_it_is_due(queues, clock):
    queues.create("q", {"DelaySeconds": "5"})
    queues.send("q", NewMessage("of the queue"))
    queues.send("q", NewMessage("own", delay_s=10))
    queues.send("q", NewMessage("none", delay_s=0))
    assert counts(queues) == {"visible": 1, "delayed": 2, "in flight": 0}
    assert bodies(queues.receive("q", 10)) == ["none"]
    clock.now += 5
    assert bodies(queues.receive("q", 10)) == ["of the queue"]
    clock.now += 5
    assert bodies(queues.receive("q", 10)) == ["own"]


def test_a_visibility_of_zero_gives_a_message_back_at_once(queues):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    handle = queues.receive("q")[0].receipt_handle
    queues.change_visibility("q", handle, 0)
    assert counts(queues) == {"visible": 1, "delayed": 0, "in flight": 0}
    assert queues.receive("q")[0].receive_count == 2


def test_a_changed_visibility_counts_from_now_and_only_once(queues, clock):
    queues.create("q", {"VisibilityTimeout": "60"})
    queues.send("q", NewMessage("x"))
    handle = queues.receive("q")[0].receipt_handle
    clock.now += 15
    queues.change_visibility("q", handle, 10)
    clock.now += 9.9
    assert queues.receive("q") == []
    clock.now += 0.1
    assert bodies(queues.receive("q")) == ["x"]
    clock.now += 59
    assert queues.receive("q") == [], "the next receive has the queue's timeout again"


def test_visibility_can_be_changed_once_it_is_over(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    handle = queues.receive("q")[0].receipt_handle
    clock.now += 30
    queues.change_visibility("q", handle, 0)
    queues.change_visibility("q", handle, 10)
    assert queues.receive("q") == []
    clock.now += 9.9
    assert queues.receive("q") == []
    clock.now += 0.1
    assert queues.receive("q")[0].receive_count == 2


def test_an_older_handle_changes_visibility(queues):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    older = queues.receive("q", visibility_s=0)[0].receipt_handle
    assert len(queues.receive("q")) == 1
    queues.change_visibility("q", older, 0)
    assert len(queues.receive("q")) == 1


def test_a_fifo_queue_changes_no_visibility_by_an_expired_handle(queues, clock):
    queues.create("q.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    queues.send("q.fifo", NewMessage("x", group_id="g"))
    handle = queues.receive("q.fifo")[0].receipt_handle
    clock.now += 30
    with pytest.raises(InvalidParameterValueError, match="not available for visibility"):
        queues.change_visibility("q.fifo", handle, 30)


def test_visibility_ends_twelve_hours_after_the_receive(queues, clock):
    queues.create("q", {"VisibilityTimeout": "43200"})
    queues.send("q", NewMessage("x"))
    handle = queues.receive("q")[0].receipt_handle
    clock.now += 1
    with pytest.raises(InvalidParameterValueError, match="beyond the limit"):
        queues.change_visibility("q", handle, 43_200)
    queues.change_visibility("q", handle, 43_199)


def test_a_receive_may_set_its_own_visibility(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    queues.receive("q", visibility_s=5)
    clock.now += 5
    assert queues.receive("q")
    queues.create("zero")
    queues.send("zero", NewMessage("x"))
    assert queues.receive("zero", visibility_s=0)
    assert queues.receive("zero", visibility_s=0)[0].receive_count == 2


def test_a_message_goes_to_the_dead_letter_queue_when_it_would_be_received_too_often(
    queues, clock, journal
):
    queues.create("dead")
    queues.create(
        "q", {"RedrivePolicy": f'{{"deadLetterTargetArn":"{DLQ}","maxReceiveCount":"2"}}'}
    )
    sent = queues.send("q", NewMessage("poison"))
    queues.send("q", NewMessage("good", delay_s=60))
    for _ in range(2):
        assert bodies(queues.receive("q")) == ["poison"]
        clock.now += 30
    assert bodies(queues.receive("q", 10)) == ["good"]
    dead = queues.receive("dead")[0]
    assert dead.message.id == sent.id
    assert dead.message.body == "poison"
    assert dead.message.sent_at == sent.sent_at, "a standard queue keeps the time of sending"
    assert dead.message.dead_letter_source == "arn:aws:sqs:us-east-1:123456789012:q"
    assert [(e.kind, e.queue) for e in journal if e.message_id == sent.id] == [
        ("message.sent", "q"),
        ("message.received", "q"),
        ("message.returned", "q"),
        ("message.received", "q"),
        ("message.returned", "q"),
        ("message.dead_lettered", "q"),
        ("message.received", "dead"),
    ]


def test_without_its_dead_letter_queue_a_message_stays(queues, clock):
    policy = f'{{"deadLetterTargetArn":"{DLQ}","maxReceiveCount":1}}'
    queues.create("q", {"RedrivePolicy": policy})
    queues.send("q", NewMessage("x"))
    for count in (1, 2, 3):
        assert queues.receive("q")[0].receive_count == count
        clock.now += 30


def test_messages_expire_with_the_retention_period_even_in_flight(queues, clock, journal):
    queues.create("q", {"MessageRetentionPeriod": "60"})
    for body in ("in flight", "visible"):
        queues.send("q", NewMessage(body))
    queues.send("q", NewMessage("delayed", delay_s=900))
    handle = queues.receive("q", visibility_s=3600)[0].receipt_handle
    clock.now += 60
    assert counts(queues) == {"visible": 0, "delayed": 0, "in flight": 0}
    assert not queues.delete("q", handle)
    assert [e.kind for e in journal].count("message.expired") == 3
    assert queues.receive("q") == []


def test_a_shorter_retention_period_applies_to_what_is_there(queues, clock):
    queues.create("q")
    queues.send("q", NewMessage("x"))
    clock.now += 100
    queues.configure("q", {"MessageRetentionPeriod": "60"})
    assert queues.receive("q") == []


def test_in_flight_messages_are_limited(queues, monkeypatch):
    monkeypatch.setattr("twolane_local.aws.sqs.service.IN_FLIGHT_LIMIT", 3)
    queues.create("q")
    for _ in range(5):
        queues.send("q", NewMessage("x"))
    assert len(queues.receive("q", 10)) == 3
    with pytest.raises(OverLimitError):
        queues.receive("q")


def test_an_unknown_queue_is_refused(queues):
    with pytest.raises(QueueDoesNotExistError):
        queues.send("nowhere", NewMessage("x"))


def test_ids_repeat_with_the_seed(clock):
    def run():
        service = QueueService(clock, Journal(clock), rng=random.Random(3))
        service.create("q")
        service.send("q", NewMessage("x"))
        return service.receive("q")

    assert run() == run()


class History:
    """Random senders and receivers on one queue, and what must hold after each step."""

    def __init__(self, clock, *, fifo):
        self.rng, self.clock, self.fifo = random.Random(11), clock, fifo
        self.queues = QueueService(clock, Journal(clock), rng=self.rng)
        self.name = "q.fifo" if fifo else "q"
        fifo_attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.queues.create(self.name, fifo_attributes if fifo else {})
        self.left, self.held, self.sent = {}, [], 0

    def send(self):
        self.sent += 1
        group = f"g{self.rng.randrange(4)}" if self.fifo else None
        delay = None if self.fifo else self.rng.choice([None, None, 3])
        message = self.queues.send(
            self.name, NewMessage(str(self.sent), delay_s=delay, group_id=group)
        )
        self.left[message.id] = message

    def receive(self):
        received = self.queues.receive(self.name, self.rng.randint(1, 10))
        if self.fifo:
            for group in {one.message.group_id for one in received}:
                got = [one.message for one in received if one.message.group_id == group]
                oldest = [m for m in self.left.values() if m.group_id == group][: len(got)]
                assert got == oldest, "a group is handed out from its oldest message on"
        assert len({one.message.id for one in received}) == len(received)
        self.held += received

    def wait(self):
        self.clock.now += self.rng.choice([0, 0.5, 7])

    def finish(self):
        if not self.held:
            return
        one = self.held.pop(self.rng.randrange(len(self.held)))
        try:
            if self.rng.random() < 0.3:
                self.queues.change_visibility(self.name, one.receipt_handle, 0)
            elif self.queues.delete(self.name, one.receipt_handle):
                del self.left[one.message.id]
        except InvalidParameterValueError:
            pass  # its visibility timeout was over


@pytest.mark.parametrize("fifo", [False, True])
def test_a_random_history_loses_and_doubles_nothing(clock, fifo):
    history = History(clock, fifo=fifo)
    steps = [history.send, history.send, history.receive, history.wait, history.finish]
    for _ in range(3_000):
        history.rng.choice(steps)()
        queue = history.queues.refreshed(history.name)
        assert len(queue) == sum(counts(history.queues, history.name).values())
        assert len(queue) == len(history.left)
    while history.left:
        clock.now += 30
        history.receive()
        while history.held:
            history.finish()
    assert history.sent > 1_000


def test_what_is_deleted_leaves_no_trace_in_memory(clock):
    """Not even where its visibility timeout or retention period is far off."""
    queues = QueueService(clock, Journal(clock, size=10))
    queues.create("q")
    for _ in range(2_000):
        queues.send("q", NewMessage("x"))
    for _ in range(2_000):
        queues.delete("q", queues.receive("q")[0].receipt_handle)
    queue = queues.refreshed("q")
    assert len(queue) == 0
    assert len(queue._due) < 200
    assert len(queue._ages) < 200


def test_waiting_ends_with_the_message_the_delay_the_timeout_or_the_visibility():
    async def main(clock: VirtualClock) -> None:
        queues = QueueService(clock, Journal(clock))
        queues.create("q")
        start = clock.time()
        assert not await queues.wait("q", 20)
        assert clock.time() - start == 20
        queues.send("q", NewMessage("x", delay_s=7))
        assert await queues.wait("q", 20)
        assert clock.time() - start == 27
        queues.receive("q", visibility_s=5)
        assert await queues.wait("q", None)
        assert clock.time() - start == 32

    run_virtual(main)


def test_waiting_ends_when_another_thread_sends():
    async def main() -> None:
        clock = SystemClock()
        queues = QueueService(clock, Journal(clock))
        queues.create("q")
        waiting = asyncio.ensure_future(queues.wait("q", 20))
        await asyncio.sleep(0)
        thread = threading.Thread(target=queues.send, args=("q", NewMessage("x")))
        thread.start()
        assert await waiting
        thread.join()

    asyncio.run(main())


class Bustle:
    """A consumer with workers that fail or take too long, and a producer, in virtual time."""

    def __init__(self, *, fifo):
        self.fifo, self.name = fifo, "q.fifo" if fifo else "q"
        self.rng, self.done, self.queues = random.Random(4), set(), None

    async def run(self, clock):
        self.clock = clock
        self.queues = QueueService(clock, Journal(clock), rng=self.rng)
        attributes = {"VisibilityTimeout": "10"}
        if self.fifo:
            attributes |= {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.queues.create(self.name, attributes)
        async with asyncio.TaskGroup() as tasks:
            consumer = tasks.create_task(self.consume(tasks))
            await self.produce()
            consumer.cancel()

    def time_passes(self, now):
        if self.queues is not None:
            assert not self.queues.get(self.name).ready()

    async def produce(self):
        for number in range(300):
            delay = None if self.fifo else self.rng.choice([None, 0, 2, 30])
            group = self.rng.choice("abc") if self.fifo else None
            new = NewMessage(str(number), delay_s=delay, group_id=group)
            self.queues.send(self.name, new)
            await self.clock.sleep(self.rng.choice([0, 0, 0.5, 20]))
        while len(self.queues.refreshed(self.name)):
            await self.clock.sleep(1)

    async def consume(self, tasks):
        while True:
            await self.queues.wait(self.name, None)
            for one in self.queues.receive(self.name, 3):
                tasks.create_task(self.work(one))

    async def work(self, one):
        # Sometimes too long, so that the next consumer processes it.
        await self.clock.sleep(self.rng.choice([0, 1, 4, 11]))
        handle = one.receipt_handle
        try:
            if self.rng.random() < 0.2:
                self.queues.change_visibility(self.name, handle, self.rng.choice([0, 3]))
            elif self.queues.delete(self.name, handle):
                self.done.add(one.message.id)
        except InvalidParameterValueError:
            pass  # its visibility timeout was over


@pytest.mark.parametrize("fifo", [False, True])
def test_no_message_is_slept_through(fifo):
    """Whenever time passes, nothing that could be received is left: no wake-up is ever lost."""
    bustle = Bustle(fifo=fifo)
    run_virtual(bustle.run, on_leap=bustle.time_passes)
    assert len(bustle.done) == 300


def test_threads_may_send_receive_and_delete_at_once():
    clock = SystemClock()
    queues = QueueService(clock, Journal(clock))
    queues.create("q", {"VisibilityTimeout": "600"})
    received = []

    def act():
        for number in range(300):
            queues.send("q", NewMessage(str(number)))
            for one in queues.receive("q", 2):
                received.append(one.message.id)
                assert queues.delete("q", one.receipt_handle)

    threads = [threading.Thread(target=act) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(received) == len(set(received)) == 1_800
    assert len(queues.refreshed("q")) == 0
