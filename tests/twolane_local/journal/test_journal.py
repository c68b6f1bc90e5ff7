from __future__ import annotations

import pytest

from twolane_local.clock import SystemClock
from twolane_local.journal import CONTENT_LIMIT, Event, Journal, cut


class FixedClock(SystemClock):
    def time(self) -> float:
        return 1_767_225_600.0


def test_event_is_immutable_and_has_time_and_sequence() -> None:
    journal = Journal(FixedClock())
    first = journal.record("message.sent", queue="tasks", message_id="m-1", size=12)
    second = journal.record("task.started", task_id="t-1")
    assert first == Event(
        1, 1_767_225_600.0, "message.sent", queue="tasks", message_id="m-1", data={"size": 12}
    )
    assert second.seq == 2
    with pytest.raises(AttributeError):
        first.kind = "log"  # type: ignore[misc]


def test_as_dict_leaves_out_what_is_absent() -> None:
    event = Journal(FixedClock()).record("tick", function="beat", late_s=0.0)
    assert event.as_dict() == {
        "seq": 1,
        "at": 1_767_225_600.0,
        "kind": "tick",
        "function": "beat",
        "data": {"late_s": 0.0},
    }


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'task\.exploded' is not a kind of journal event"):
        Journal(FixedClock()).record("task.exploded")


def test_ring_forgets_the_oldest() -> None:
    journal = Journal(FixedClock(), size=2)
    for _ in range(3):
        journal.record("tick")
    assert [event.seq for event in journal] == [2, 3]


def test_subscriber_sees_events_until_it_leaves() -> None:
    journal, seen = Journal(FixedClock()), []
    leave = journal.subscribe(lambda event: seen.append(event.seq))
    journal.record("tick")
    leave()
    journal.record("tick")
    assert seen == [1]


def test_since_gives_what_is_newer_oldest_first() -> None:
    journal = Journal(SystemClock(), size=3)
    for number in range(5):
        journal.record("log", line=str(number))
    assert [event.seq for event in journal.since(3)] == [4, 5]
    assert [event.seq for event in journal.since(0)] == [3, 4, 5]
    assert list(journal.since(5)) == []
    assert list(journal.since(99)) == []
    assert journal.last == 5


def test_contents_together_stay_below_the_limit() -> None:
    journal = Journal(SystemClock(), limit=100)
    for number in range(10):
        journal.record("message.sent", body=f"{number}" * 30)
    assert journal.bytes <= 100
    assert [event.data["body"][0] for event in journal] == ["7", "8", "9"]


def test_one_content_is_kept_up_to_its_limit() -> None:
    assert cut("short") == "short"
    assert len(cut(b"x" * 100_000)) == CONTENT_LIMIT


def test_bytes_are_text_in_json() -> None:
    journal = Journal(SystemClock())
    event = journal.record("invocation.started", payload=b'{"a": "\xc3\xa9"}')
    assert event.as_dict()["data"] == {"payload": '{"a": "é"}'}


def test_what_an_earlier_run_had_under_way_ends_where_it_is_restored() -> None:
    """The emulator was killed: nobody wrote the end."""
    former = Journal(FixedClock())
    for request in ("a", "b"):
        former.record("invocation.started", function="fn", request_id=request)
    former.record("invocation.ended", function="fn", request_id="a", durationMs=1.0)
    journal = Journal(FixedClock())
    journal.record("log", line="new")
    assert journal.restore(former) == 3
    ended = [event for event in journal if event.kind == "invocation.ended"]
    assert [event.request_id for event in ended] == ["a", "b"]
    assert ended[1].data["reason"] == "the emulator ended"
    assert [event.seq for event in journal] == [1, 2, 3, 4, 5]
    assert [event.kind for event in journal.since(3)] == ["invocation.ended", "log"]
