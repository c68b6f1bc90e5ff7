from __future__ import annotations

import asyncio

from twolane_local.aws.event_source_mapping import EventSourceMapping, EventSourceMappings
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.console.state import messages_of, queue_states, snapshot
from twolane_local.model import QueueMappingSpec


def test_queues_with_their_counts_and_readers(tell, journal, clock):
    async def main():
        mappings = EventSourceMappings()
        spec = QueueMappingSpec(
            "Worker", "arn:aws:sqs:us-east-1:123456789012:tasks", maximum_concurrency=3
        )
        mappings.add(EventSourceMapping(spec, tell.queues, None, clock, journal))
        return queue_states(tell.queues, mappings)

    tell.queues.send("tasks", NewMessage("a"))
    tell.queues.send("tasks", NewMessage("b", delay_s=60))
    tell.queues.receive("tasks")
    clock.now += 5
    states = asyncio.run(main())
    shown = states["tasks"].as_dict()
    assert (shown["visible"], shown["inFlight"], shown["delayed"]) == (0, 1, 1)
    assert shown["oldestAgeSeconds"] == 5.0
    assert (shown["deadLetterQueue"], shown["maxReceiveCount"]) == ("dead", 2)
    (mapping,) = shown["mappings"]
    assert (mapping["function"], mapping["maximumConcurrency"]) == ("Worker", 3)
    assert (mapping["underWay"], mapping["allowed"]) == (0, 3)
    assert states["dead"].dead_letter_of == ("tasks",)
    assert "oldestAgeSeconds" not in states["dead"].as_dict()


def test_a_fair_queue_with_its_noisy_groups(tell):
    for _ in range(40):
        tell.queues.send("tasks", NewMessage("x", group_id="customer-1"))
    assert "noisyGroups" not in queue_states(tell.queues, EventSourceMappings())["tasks"].as_dict()
    for _ in range(3):
        tell.queues.receive("tasks", 10)
    shown = queue_states(tell.queues, EventSourceMappings())["tasks"].as_dict()
    assert shown["noisyGroups"] == {"customer-1": 10}


def test_messages_are_looked_at_without_a_receive(tell, clock):
    sent = [tell.queues.send("tasks", NewMessage(str(number))).id for number in range(3)]
    tell.queues.receive("tasks", visibility_s=40)
    found, more = messages_of(tell.queues, "tasks", limit=2)
    assert ([each.id for each in found], more) == (sent[:2], True)
    assert (found[0].state, found[0].receive_count) == ("in flight", 1)
    assert found[0].visible_at == clock.now + 40
    assert (found[1].state, found[1].receive_count) == ("visible", 0)
    rest, more = messages_of(tell.queues, "tasks", after=found[-1].position)
    assert ([each.id for each in rest], more) == (sent[2:], False)
    assert [each.id for each in messages_of(tell.queues, "tasks", state="in flight")[0]] == sent[:1]


class NoFunctions:
    def states(self):
        return {}


def test_a_snapshot_holds_the_messages_that_are_asked_for(tell):
    sent = [tell.queues.send("tasks", NewMessage(str(number))).id for number in range(2)]
    found = snapshot(tell.queues, EventSourceMappings(), NoFunctions(), messages=[sent[0], "gone"])
    assert set(found.messages) == {sent[0]}
