from __future__ import annotations

import asyncio
import json

from twolane_local.console import journal_routes
from twolane_local.journal.filters import Filter


def read(journal, wanted, after, count=1):
    async def main():
        closing = asyncio.Event()
        found = []
        async for chunk in journal_routes.stream(journal, wanted, after, closing):
            if b"data: " in chunk:
                found.append(json.loads(chunk.split(b"data: ")[1]))
                if len(found) == count:
                    closing.set()
        return found

    return asyncio.run(asyncio.wait_for(main(), 10))


def test_what_is_new_comes_in_order(journal):
    for number in range(3):
        journal.record("log", line=str(number))
    (news,) = read(journal, Filter(), 1)
    assert [event["data"]["line"] for event in news["events"]] == ["1", "2"]
    assert (news["skipped"], news["last"]) == (0, 3)


def test_only_the_newest_are_sent_and_the_rest_is_counted(journal):
    for number in range(5_000):
        journal.record("log", line=str(number))
    (news,) = read(journal, Filter(), 0)
    assert len(news["events"]) == journal_routes.CROWDED
    assert news["events"][-1]["data"]["line"] == "4999"
    assert news["skipped"] == 5_000 - journal_routes.CROWDED


def test_nothing_is_sent_of_what_does_not_match(journal):
    journal.record("log", line="no")
    journal.record("task.started", task_id="t")
    (news,) = read(journal, Filter(kind="task"), 0)
    assert [event["kind"] for event in news["events"]] == ["task.started"]


def test_it_ends_when_the_console_closes(journal):
    async def main():
        closing = asyncio.Event()
        stream = journal_routes.stream(journal, Filter(), 0, closing)
        await anext(stream)
        closing.set()
        return [chunk async for chunk in stream]

    assert asyncio.run(asyncio.wait_for(main(), 10)) == []
