"""Messages of a recursive loop: Lambda does not invoke the function for them.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
"""

from __future__ import annotations

from typing import Any

from twolane_local.aws.sqs.service import NewMessage

from .test_mapping import REDRIVE, ok, run

LOOP = "Root=1-5;Lineage=0:15"


def texts(here: Any) -> list[str]:
    return [str(event.data["message"]) for event in here.kinds("log")]


def test_each_receive_is_refused_until_the_dead_letter_queue_has_it(world: type[Any]) -> None:
    async def scenario(here: Any, mapping: Any) -> None:
        here.recursive = frozenset({LOOP})
        here.queues.send("q", NewMessage("looped", trace_header=LOOP))
        await here.clock.sleep(100)
        assert here.events == []
        assert (here.left(), here.left("dead")) == ([], ["looped"])
        assert len(here.kinds("batch.invoked")) == 3
        assert texts(here)[0] == (
            "mapping of q: 1 messages are part of a recursive loop: worker was not invoked; they "
            "are received and refused again every 30 s, until they go to dead after 3 receives"
        )

    run(world, scenario, attributes={**REDRIVE, "VisibilityTimeout": "30"})


def test_without_a_dead_letter_queue_they_come_back_until_they_expire(world: type[Any]) -> None:
    async def scenario(here: Any, mapping: Any) -> None:
        here.recursive = frozenset({LOOP})
        here.queues.send("q", NewMessage("looped", trace_header=LOOP))
        await here.clock.sleep(299)
        assert len(here.kinds("batch.invoked")) == 10
        assert here.left() == ["looped"]
        assert "until they expire, as the queue has no dead-letter queue" in texts(here)[0]
        await here.clock.sleep(100)
        assert here.left() == []

    run(world, scenario, attributes={"VisibilityTimeout": "30", "MessageRetentionPeriod": "300"})


def test_the_others_of_the_batch_run(world: type[Any]) -> None:
    async def scenario(here: Any, mapping: Any) -> None:
        here.recursive = frozenset({LOOP})
        for body, trace in (("a", None), ("looped", LOOP), ("b", "Root=1-6")):
            here.queues.send("q", NewMessage(body, trace_header=trace))
        await here.clock.sleep(1)
        assert here.bodies() == [["a", "b"]]
        assert here.traces == [["", "Root=1-6"]]
        assert here.left() == ["looped"]
        first, second = (event.data["messageIds"] for event in here.kinds("batch.invoked"))
        assert (len(first), len(second)) == (3, 2)

    run(world, scenario, function=ok)
