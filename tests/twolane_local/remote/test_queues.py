from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote.resources import StackQueues, read_resources

if TYPE_CHECKING:
    from twolane_local.remote.account import Account

    from .conftest import Sqs


@pytest.fixture
def queues(account: Account, stack: str) -> StackQueues:
    return StackQueues(account, read_resources(account, stack))


def test_queues_in_the_shape_of_the_control_api(
    queues: StackQueues, sqs: Sqs, account: Account
) -> None:
    account.client("sqs").send_message(QueueUrl=queues.urls["shop-tasks"], MessageBody="x")
    dead, tasks = queues.listed()
    (mapping,) = tasks["mappings"]
    assert mapping.pop("id")
    assert mapping == {
        "function": "shop-Worker", "enabled": True, "batchSize": 5, "maximumConcurrency": None,
    }  # fmt: skip
    assert tasks["url"].endswith("/123456789012/shop-tasks")
    assert {name: tasks[name] for name in tasks if name not in {"url", "mappings"}} == {
        "name": "shop-tasks", "arn": "arn:aws:sqs:us-east-1:123456789012:shop-tasks", "fifo": False,
        "visible": 1, "inFlight": 0, "delayed": 0, "visibilityTimeout": 0, "delaySeconds": 0,
        "retentionSeconds": 345600, "deadLetterQueue": "shop-dead", "maxReceiveCount": 2,
        "deadLetterOf": [],
    }  # fmt: skip
    assert (dead["deadLetterOf"], dead["mappings"]) == (["shop-tasks"], [])


def test_a_queue_may_be_named_by_its_logical_id(queues: StackQueues) -> None:
    assert queues.name_of("DeadLetters") == queues.name_of("shop-dead") == "shop-dead"
    with pytest.raises(LocalError, match="no queue 'other'; it has: shop-dead, shop-tasks"):
        queues.name_of("other")
