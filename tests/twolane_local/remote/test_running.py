from __future__ import annotations

from typing import Any

from twolane_local.remote import running


class Pages:
    """The control API's journal, two events at a time."""

    def __init__(self, count: int) -> None:
        self.asked: list[dict[str, Any]] = []
        self._events = [
            {"seq": seq, "at": 1.0, "kind": "log", "requestId": f"r{seq}"}
            for seq in range(1, count + 1)
        ]

    def get(self, *path: str, **query: Any) -> Any:
        assert path == ("journal",)
        self.asked.append(query)
        left = [event for event in self._events if event["seq"] > query["after"]]
        return {"events": left[:2], "more": len(left) > 2}


def test_every_page_is_read_once() -> None:
    api = Pages(5)
    events = running.journal(api)
    assert [event.request_id for event in events] == ["r1", "r2", "r3", "r4", "r5"]
    assert [query["after"] for query in api.asked] == [0, 2, 4]


def test_an_empty_journal() -> None:
    assert running.journal(Pages(0)) == []
