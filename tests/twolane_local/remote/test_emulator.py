"""How a long answer is read page by page, and followed. The control API is literal here; the real
one answers in tests/e2e/test_commands.py.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest

from twolane_local.journal.files import event_from_dict
from twolane_local.journal.filters import Filter
from twolane_local.remote.emulator import ControlError, EmulatorSource, Running
from twolane_local.remote.source import Edit, MessageChoice


class Journal:
    """Answers as the control API does, from a list that grows."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[tuple[Any, ...]] = []

    def get(self, *path: str, limit: int = 200, **query: Any) -> Any:
        query = {name: value for name, value in query.items() if value is not None}
        self.asked.append((path, query))
        if path == ("status",):
            return {"journal": {"last": self.size}}
        numbers = [n for n in range(1, self.size + 1)
                   if query.get("after", 0) < n < query.get("before", self.size + 1)]  # fmt: skip
        chosen = numbers[:limit] if "after" in query else numbers[-limit:]
        events = [{"seq": n, "at": float(n), "kind": "log", "data": {"line": str(n)}}
                  for n in chosen]  # fmt: skip
        return {"events": events, "more": len(chosen) < len(numbers), "last": self.size}


def source(control: Any, **more: Any) -> EmulatorSource:
    found = EmulatorSource(Running(1, "http://127.0.0.1:9", "t", "local", "/t", 0.0), **more)
    found._control = control
    return found


def test_the_last_events_are_read_backwards_in_pages() -> None:
    journal = Journal(5000)
    found = source(journal).events(Filter(kind="log"), since=None, limit=4500)
    assert [event.seq for event in found] == list(range(501, 5001))
    assert [query.get("before") for _, query in journal.asked] == [None, 3001, 1001]
    assert all(query["kind"] == "log" and "task" not in query for _, query in journal.asked)


def test_a_time_ends_the_reading() -> None:
    journal = Journal(5000)
    found = source(journal).events(Filter(), since=2500.0, limit=10_000)
    assert [event.seq for event in found] == list(range(2500, 5001))
    assert len(journal.asked) == 2


def test_a_follower_misses_nothing_however_much_comes_at_once() -> None:
    journal = Journal(10)

    def wait(seconds: float) -> None:
        assert 0 < seconds < 1
        journal.size += 5000

    coming = source(journal, wait=wait).follow(Filter())
    journal.size += 2
    assert [event.seq for event in islice(coming, 9000)] == list(range(11, 9011))


def test_an_event_of_the_api_is_one_of_the_journal() -> None:
    event = event_from_dict({"seq": 1, "at": 2.0, "kind": "log", "requestId": "r", "taskId": "t"})
    assert (event.request_id, event.task_id, event.message_id, event.data) == ("r", "t", None, {})


class Queues:
    """Two messages on one queue; ``sent`` is what was posted."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[str, ...], Any]] = []

    def get(self, *path: str, limit: int = 100, after: int | None = None) -> Any:
        if len(path) == 4:
            return {"id": path[3], "body": "whole"}
        if path[0] == "trace":
            raise ControlError("ambiguous", 404 if path[1] == "unknown-id" else 409)
        page = [{"id": "m1-000000", "position": 1, "task": {"id": "t1-000000", "name": "send"}},
                {"id": "m2-000000", "position": 2, "task": None}]  # fmt: skip
        rest = [each for each in page if after is None or int(str(each["position"])) > after]
        return {"messages": rest[:1], "more": len(rest) > 1}

    def post(self, *path: str, body: Any = None) -> Any:
        self.sent.append((path, body))
        return {"purged": 2, "deleted": ["m1-000000"], "redriven": [], "failed": []}


def test_messages_are_read_to_the_last_page() -> None:
    found = source(Queues()).messages("q", limit=10)
    assert [each["id"] for each in found] == ["m1-000000", "m2-000000"]
    assert len(source(Queues()).messages("q", limit=1)) == 1


def test_one_message_is_fetched_whole_by_its_tasks_id() -> None:
    assert source(Queues()).message("q", "t1-00000") == {"id": "m1-000000", "body": "whole"}
    assert source(Queues()).message("q", "nothing-like-it") is None


def test_a_redrive_names_the_messages_and_the_edit() -> None:
    queues = Queues()
    source(queues).redrive("dead", MessageChoice(task="send"), to="other", edit=Edit(args=[1]))
    assert queues.sent == [
        (("queues", "dead", "redrive"),
         {"messageIds": ["m1-000000"], "to": "other", "edits": {"m1-000000": {"args": [1]}}}),
    ]  # fmt: skip


def test_nothing_meant_is_nothing_posted() -> None:
    queues = Queues()
    nobody = MessageChoice(task="other")
    assert source(queues).redrive("dead", nobody, to=None, edit=Edit()) == {
        "redriven": [], "failed": [],
    }  # fmt: skip
    assert source(queues).purge("dead", nobody) == 0
    assert queues.sent == []


def test_purge_of_all_and_of_some() -> None:
    queues = Queues()
    assert source(queues).purge("dead", MessageChoice(everything=True)) == 2
    assert source(queues).purge("dead", MessageChoice(("m1-000000",))) == 1
    assert queues.sent[1] == (("queues", "dead", "delete"), {"messageIds": ["m1-000000"]})


def test_an_unknown_id_is_nothing_and_an_ambiguous_one_an_error() -> None:
    assert source(Queues()).trace("unknown-id") is None
    with pytest.raises(ControlError, match="ambiguous"):
        source(Queues()).trace("ambiguous-id")
