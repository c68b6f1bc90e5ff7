from __future__ import annotations

from twolane_local.journal import KINDS, Journal
from twolane_local.simulator.facts import OWN, Fact, History
from twolane_local.virtual_clock import NEW_YEAR, VirtualClock, VirtualLoop


def test_facts_are_found_by_kind_in_their_order() -> None:
    history = History([Fact(1.0, "tick"), Fact(2.0, "slot.due")])
    assert [fact.at for fact in history.of("tick")] == [1.0]
    history.add(Fact(3.0, "tick"))
    assert [fact.at for fact in history.of("tick")] == [1.0, 3.0], "what came after the first look"
    assert [fact.at for fact in history.of("slot.due", "tick")] == [1.0, 2.0, 3.0]
    assert history.of("run.ended") == []
    assert len(history) == 3


def test_when_something_last_happened() -> None:
    history = History([Fact(1.0, "tick"), Fact(2.0, "tick")])
    assert history.last_at("tick") == 2.0
    assert history.last_at("run.ended") is None


def test_the_journal_is_heard() -> None:
    loop = VirtualLoop(NEW_YEAR)
    journal, history = Journal(VirtualClock(loop)), History()
    journal.subscribe(history.heard)
    journal.record("message.sent", queue="tasks", message_id="m1", task_id="t1", size=5)
    loop.close()
    (fact,) = history
    assert (fact.at, fact.kind, fact.task) == (NEW_YEAR, "message.sent", "t1")
    assert (fact.message, fact.queue, fact.data["size"]) == ("m1", "tasks", 5)


def test_no_kind_is_the_journal_s_as_well() -> None:
    """Or a fact would count twice."""
    assert not OWN & set(KINDS)


def test_as_values_only_what_is_known() -> None:
    fact = Fact(1.0, "lease.changed", task="t1", data={"state": None})
    assert fact.as_dict() == {
        "at": 1.0, "kind": "lease.changed", "task": "t1", "data": {"state": None},
    }  # fmt: skip
