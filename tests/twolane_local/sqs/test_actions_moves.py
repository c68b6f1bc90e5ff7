"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html"""

from __future__ import annotations

import json

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock.virtual import run_virtual
from twolane_local.journal import Journal

ARN = "arn:aws:sqs:us-east-1:123456789012:"


class World:
    def __init__(self, clock):
        self.clock = clock
        self.queues = QueueService(clock, Journal(clock))
        self.api = SqsApi(self.queues)
        self.queues.create("dead")
        policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead", "maxReceiveCount": 1})
        self.queues.create("q", {"RedrivePolicy": policy, "VisibilityTimeout": "0"})

    async def call(self, action, **params):
        headers = {"x-amz-target": f"AmazonSQS.{action}"}
        response = await self.api(AwsRequest("POST", "/", "", headers, json.dumps(params).encode()))
        body = json.loads(response.body)
        return body["__type"].partition("#")[2] if response.status >= 400 else body

    def kill(self, *bodies):
        """Have these land on the dead-letter queue."""
        for body in bodies:
            self.queues.send("q", NewMessage(body))
        while self.queues.receive("q", 10):
            pass

    def bodies(self, name):
        return [entry.message.body for entry in self.queues.refreshed(name)]


def scenario(main):
    """Run the body of a test in virtual time, with two queues."""

    def test():
        run_virtual(lambda clock: main(World(clock)))

    return test


@scenario
async def test_messages_go_back_to_where_they_came_from_as_new_ones(world):
    world.kill("a", "b")
    old = {entry.message.id for entry in world.queues.refreshed("dead")}
    await world.clock.sleep(10)
    answer = await world.call("StartMessageMoveTask", SourceArn=f"{ARN}dead")
    running = await world.call("ListMessageMoveTasks", SourceArn=f"{ARN}dead")
    assert running["Results"][0]["TaskHandle"] == answer["TaskHandle"]
    await world.clock.sleep(0.1)
    assert world.bodies("dead") == []
    back = world.queues.receive("q", 10)
    assert [(one.message.body, one.receive_count) for one in back] == [("a", 1), ("b", 1)]
    assert not old & {one.message.id for one in back}
    assert {one.message.dead_letter_source for one in back} == {None}
    assert {one.message.sent_at for one in back} == {world.clock.time() - 0.1}
    assert await world.call("ListMessageMoveTasks", SourceArn=f"{ARN}dead") == {
        "Results": [
            {
                "Status": "COMPLETED",
                "SourceArn": f"{ARN}dead",
                "ApproximateNumberOfMessagesMoved": 2,
                "ApproximateNumberOfMessagesToMove": 2,
                "StartedTimestamp": 1767225610000,
            }
        ]
    }


@scenario
async def test_a_destination_and_a_rate(world):
    world.queues.create("other")
    world.kill(*map(str, range(25)))
    await world.call(
        "StartMessageMoveTask", SourceArn=f"{ARN}dead", DestinationArn=f"{ARN}other",
        MaxNumberOfMessagesPerSecond=10,
    )  # fmt: skip
    await world.clock.sleep(0.5)
    assert len(world.bodies("other")) == 10
    await world.clock.sleep(1)
    assert len(world.bodies("other")) == 20
    await world.clock.sleep(1)
    assert (len(world.bodies("other")), world.bodies("dead")) == (25, [])


@scenario
async def test_a_task_can_be_cancelled(world):
    world.kill(*map(str, range(25)))
    start = {"SourceArn": f"{ARN}dead", "MaxNumberOfMessagesPerSecond": 10}
    handle = (await world.call("StartMessageMoveTask", **start))["TaskHandle"]
    assert await world.call("StartMessageMoveTask", **start) == ("InvalidParameterValueException")
    await world.clock.sleep(0.5)
    assert await world.call("CancelMessageMoveTask", TaskHandle=handle) == {
        "ApproximateNumberOfMessagesMoved": 10
    }
    await world.clock.sleep(5)
    assert len(world.bodies("dead")) == 15
    assert await world.call("CancelMessageMoveTask", TaskHandle=handle) == (
        "ResourceNotFoundException"
    )
    await world.call("StartMessageMoveTask", SourceArn=f"{ARN}dead")
    await world.clock.sleep(1)
    listed = await world.call("ListMessageMoveTasks", SourceArn=f"{ARN}dead", MaxResults=10)
    assert [one["Status"] for one in listed["Results"]] == ["COMPLETED", "CANCELLED"]
    assert world.bodies("dead") == []


@scenario
async def test_a_message_that_was_sent_there_directly_has_no_way_back(world):
    world.queues.send("dead", NewMessage("direct"))
    await world.call("StartMessageMoveTask", SourceArn=f"{ARN}dead")
    await world.clock.sleep(1)
    (task,) = (await world.call("ListMessageMoveTasks", SourceArn=f"{ARN}dead"))["Results"]
    assert (task["Status"], task["FailureReason"]) == ("FAILED", "CouldNotDetermineMessageSource")
    assert world.bodies("dead") == ["direct"], "nothing is lost"


@scenario
async def test_what_is_refused(world):
    world.queues.create("plain")
    world.queues.create("x.fifo", {"FifoQueue": "true"})
    refused = [
        ({"SourceArn": f"{ARN}nowhere"}, "ResourceNotFoundException"),
        ({"SourceArn": f"{ARN}plain"}, "InvalidParameterValueException"),
        ({"SourceArn": f"{ARN}dead", "DestinationArn": f"{ARN}no"}, "ResourceNotFoundException"),
        (
            {"SourceArn": f"{ARN}dead", "DestinationArn": f"{ARN}x.fifo"},
            "InvalidParameterValueException",
        ),
        (
            {"SourceArn": f"{ARN}dead", "DestinationArn": f"{ARN}dead"},
            "InvalidParameterValueException",
        ),
        (
            {"SourceArn": f"{ARN}dead", "MaxNumberOfMessagesPerSecond": 501},
            "InvalidParameterValueException",
        ),
    ]
    for params, kind in refused:
        assert await world.call("StartMessageMoveTask", **params) == kind, params


@pytest.mark.parametrize("count", [1, 250])
def test_a_fifo_group_keeps_its_order(count):
    async def main(clock):
        queues = QueueService(clock, Journal(clock))
        fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        queues.create("dead.fifo", fifo)
        policy = json.dumps({"deadLetterTargetArn": f"{ARN}dead.fifo", "maxReceiveCount": 1})
        queues.create("q.fifo", {**fifo, "RedrivePolicy": policy, "VisibilityTimeout": "0"})
        for number in range(count):
            queues.send("q.fifo", NewMessage(str(number), group_id="g"))
        while queues.receive("q.fifo", 10):
            pass
        assert len(queues.refreshed("dead.fifo")) == count
        while queues.redrive_one("dead.fifo", None) is not None:
            pass
        back = [
            one.message for _ in range(25) for one in queues.receive("q.fifo", 10, visibility_s=30)
        ]
        assert [one.body for one in back] == [str(n) for n in range(min(count, 10))]
        assert [entry.message.body for entry in queues.refreshed("q.fifo")] == [
            str(number) for number in range(count)
        ]

    run_virtual(main)
