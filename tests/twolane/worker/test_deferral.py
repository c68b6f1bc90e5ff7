"""Messages that are not due: who sends the copy, and with which delay."""

from __future__ import annotations

import pytest

from twolane.publish.errors import EnqueueError
from twolane.worker.delay import LONGEST_DELAY_S, Deferral, sent_attributes
from twolane.worker.records import Record

from .conftest import QUEUE_ARN, RecordedQueues

NOW = 1_800_000_000.0


class Schedules:
    """EventBridge Scheduler as the deferral sees it."""

    def __init__(self, *, takes: bool) -> None:
        self.takes = takes
        self.asked: list[tuple[str, str, float]] = []
        self.groups: list[str | None] = []

    def schedule(
        self,
        queue_arn: str,
        body: str,
        due: float,
        *,
        exact: bool = True,
        group_id: str | None = None,
    ) -> bool:
        assert exact
        self.asked.append((queue_arn, body, due))
        self.groups.append(group_id)
        return self.takes


def record(arn: str = QUEUE_ARN) -> Record:
    attributes = {"n": {"stringValue": "7", "dataType": "Number"}}
    return Record("m1", "r1", "the body, byte for byte", arn, {}, attributes)


@pytest.mark.parametrize(
    ("delay_s", "sent_s"), [(1.2, 2), (899.5, 900), (900, 900), (901, 900), (86_400, 900)]
)
def test_a_delay_is_whole_seconds_never_early_and_900_at_most(
    queues: RecordedQueues, delay_s: float, sent_s: int
) -> None:
    assert Deferral(queues).defer(record(), delay_s, NOW)
    ((arn, body, sent, attributes),) = queues.sent
    assert (arn, body, sent) == (QUEUE_ARN, "the body, byte for byte", sent_s)
    assert attributes == {"n": {"StringValue": "7", "DataType": "Number"}}


def test_a_long_delay_is_a_schedules(queues: RecordedQueues) -> None:
    schedules = Schedules(takes=True)
    assert Deferral(queues, schedules).defer(record(), LONGEST_DELAY_S + 1, NOW)
    assert schedules.asked == [(QUEUE_ARN, "the body, byte for byte", NOW + 901)]
    assert queues.sent == []


def test_a_short_delay_asks_no_schedule(queues: RecordedQueues) -> None:
    schedules = Schedules(takes=True)
    assert Deferral(queues, schedules).defer(record(), LONGEST_DELAY_S, NOW)
    assert schedules.asked == []
    assert len(queues.sent) == 1


def test_what_no_schedule_takes_hops(queues: RecordedQueues) -> None:
    assert Deferral(queues, Schedules(takes=False)).defer(record(), 5000, NOW)
    assert [delay_s for _, _, delay_s, _ in queues.sent] == [900]


def test_a_fifo_queue_takes_no_delay_for_one_message(queues: RecordedQueues) -> None:
    schedules = Schedules(takes=True)
    assert not Deferral(queues, schedules).defer(record(f"{QUEUE_ARN}.fifo"), 5000, NOW)
    assert queues.sent == []
    assert schedules.asked == []


def test_attributes_in_the_shape_of_send_message() -> None:
    received = {
        "text": {"stringValue": "a", "stringListValues": [], "dataType": "String"},
        "raw": {"binaryValue": "AAE=", "stringValue": "", "dataType": "Binary"},
    }
    assert sent_attributes(received) == {
        "text": {"StringValue": "a", "DataType": "String"},
        "raw": {"BinaryValue": "AAE=", "DataType": "Binary"},
    }


@pytest.mark.parametrize("delay_s", [30, 5000])
def test_a_message_that_is_put_off_stays_its_tenants(
    queues: RecordedQueues, delay_s: float
) -> None:
    schedules = Schedules(takes=True)
    mine = record()._replace(attributes={"MessageGroupId": "customer-1"})
    assert Deferral(queues, schedules).defer(mine, delay_s, NOW)
    assert queues.groups + schedules.groups == ["customer-1"]


def test_what_scheduler_refuses_hops(queues: RecordedQueues) -> None:
    class Refusing:
        def schedule(self, *_: object, **__: object) -> bool:
            raise EnqueueError("EventBridge Scheduler refused CreateSchedule on g/n: no such date")

    assert Deferral(queues, Refusing()).defer(record(), 5000, NOW)
    assert [sent_s for _, _, sent_s, _ in queues.sent] == [900]
