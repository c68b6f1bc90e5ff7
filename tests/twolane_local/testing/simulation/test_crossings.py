"""The points of a run, and what strikes at them."""

from __future__ import annotations

from typing import Any

import pytest

from twolane_local.faults.injection import CATALOGUE
from twolane_local.journal import Journal
from twolane_local.testing.simulation.placements import KINDS, OUTAGE, OUTAGE_S, Crossings, kinds_at


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


def crossings(clock: Any = None, **strikes: str) -> Crossings:
    clock = clock or Clock()
    struck = {int(number.removeprefix("at_")): kind for number, kind in strikes.items()}
    return Crossings(Journal(clock), clock, struck, lambda: "worker-1")


def test_each_question_of_a_seam_is_a_point() -> None:
    one = crossings()
    assert list(one.at("send", "tasks")) == []
    assert list(one.at("a.seam.of.tomorrow", "x")) == []  # nothing is known to strike there
    assert list(one.at("delete", "tasks")) == []
    assert [(each.number, each.point, each.target) for each in one.passed] == [
        (0, "send", "tasks"),
        (1, "delete", "tasks"),
    ]
    assert one.passed[1].kinds == ("fails", "answer-lost", "twice")


def test_a_strike_is_at_its_number_and_in_the_journal() -> None:
    one = crossings(at_1="answer-lost")
    heard: list[Any] = []
    one.journal.subscribe(heard.append)
    struck = [[each.fault.name for each in one.at("send", "tasks")] for _ in range(3)]
    assert struck == [[], ["send.reply-lost"], []]
    (event,) = heard
    assert (event.kind, event.function) == ("fault.injected", "worker-1")
    assert (event.data["strike"], event.data["occasion"]) == ("answer-lost", 1)
    assert one.struck == [1]


def test_a_strike_of_another_kind_of_point_does_not_happen() -> None:
    one = crossings(at_0="twice")
    assert list(one.at("send", "tasks")) == []
    assert one.struck == []


def test_an_outage_lasts_and_its_calls_are_no_points() -> None:
    clock = Clock()
    one = crossings(clock, at_0=OUTAGE)
    assert [each.fault.name for each in one.at("store", "SET a")] == ["store.down"]
    assert [each.fault.name for each in one.at("store", "GET b")] == ["store.down"]
    assert len(one.passed) == 1
    clock.now += OUTAGE_S
    assert list(one.at("store", "GET b")) == []
    assert len(one.passed) == 2


@pytest.mark.parametrize("call", ["GET celery-task-meta-1", "BatchGetItem "])
def test_a_read_whose_answer_is_lost_has_failed(call: str) -> None:
    assert dict(kinds_at("store.done", call)) == {}
    assert set(kinds_at("call.after", call)) == {"frozen", "paused"}
    assert set(kinds_at("store.done", "SET x")) == {"answer-lost"}
    assert set(kinds_at("call.after", "SET x")) == {"killed", "frozen", "paused"}


def test_what_strikes_is_in_the_catalogue() -> None:
    for kinds in KINDS.values():
        for fault in kinds.values():
            own = {parameter.name for parameter in CATALOGUE[fault.name].own}
            assert set(fault.parameters) <= own
