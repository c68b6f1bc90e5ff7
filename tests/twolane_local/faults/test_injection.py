"""Arming faults: counts, chances, targets, windows, and the proof that one happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane_local.faults.injection import CATALOGUE, Fault, FaultError, Faults

if TYPE_CHECKING:
    from twolane_local.journal import Journal

    from ..conftest import HandClock  # noqa: TID252


@pytest.fixture
def faults(journal: Journal, clock: HandClock) -> Faults:
    return Faults(journal, clock)


def happens(faults: Faults, target: str = "tasks") -> int:
    return len(list(faults.at("send", target)))


def test_one_that_happens_is_journalled_with_its_name_and_seed(
    faults: Faults, journal: Journal
) -> None:
    identity = faults.inject("send.failed", seed=7)
    assert happens(faults) == 1
    (event,) = journal
    assert event.kind == "fault.injected"
    assert event.data["name"] == "send.failed"
    assert (event.data["seed"], event.data["id"], event.data["target"]) == (7, identity, "tasks")


def test_it_happens_as_often_as_it_is_told(faults: Faults) -> None:
    faults.inject("send.failed", count=2, skip=1)
    assert [happens(faults) for _ in range(5)] == [0, 1, 1, 0, 0]
    assert faults.fired("send.failed") == 2
    assert faults.active()[0]["fired"] == 2


def test_without_a_count_it_happens_each_time(faults: Faults) -> None:
    faults.inject("send.failed", count=0)
    assert sum(happens(faults) for _ in range(50)) == 50


def test_it_is_for_its_target_only(faults: Faults) -> None:
    faults.inject("send.failed", target="tasks-*", count=0)
    assert [happens(faults, name) for name in ("tasks", "tasks-dead")] == [0, 1]


def test_it_lasts_for_its_time_from_its_first_occasion(faults: Faults, clock: HandClock) -> None:
    faults.inject("send.failed", count=0, for_s=10.0)
    clock.now += 500
    seen = []
    for _ in range(4):
        seen.append(happens(faults))
        clock.now += 5
    assert seen == [1, 1, 1, 0]


def test_chance_comes_from_its_own_seed(journal: Journal, clock: HandClock) -> None:
    def draw(seed: int, *others: str) -> list[int]:
        faults = Faults(journal, clock)
        faults.inject("send.failed", count=0, chance=0.5, seed=seed)
        for other in others:
            faults.inject(other, count=0, chance=0.5)
        return [
            sum(each.fault.name == "send.failed" for each in faults.at("send", "tasks"))
            for _ in range(40)
        ]

    assert draw(1) == draw(1) == draw(1, "send.reply-lost")
    assert draw(1) != draw(2)
    assert 5 < sum(draw(1)) < 35


def test_several_compose(faults: Faults) -> None:
    faults.inject("send.failed")
    faults.inject("send.reply-lost")
    assert [each.fault.name for each in faults.at("send", "tasks")] == [
        "send.failed",
        "send.reply-lost",
    ]


def test_one_or_all_are_cleared(faults: Faults) -> None:
    first = faults.inject("send.failed", count=0)
    faults.inject("send.reply-lost", count=0)
    assert faults.clear(first) == 1
    assert happens(faults) == 1
    assert faults.clear() == 1
    assert happens(faults) == 0
    assert faults.clear("nobody") == 0


def test_an_unknown_name_or_parameter_says_what_there_is(faults: Faults) -> None:
    with pytest.raises(FaultError, match=r"no fault named 'sned\.failed'; there are: .*send\.f"):
        faults.inject("sned.failed")
    with pytest.raises(FaultError, match="has no parameter hold_ms; it has: hold_s, target"):
        faults.inject("queue.reordered", hold_ms=5)


def test_a_fault_is_json_and_back() -> None:
    one = Fault("queue.reordered", seed=3, count=0, parameters={"hold_s": 9})
    assert Fault(**json.loads(json.dumps(one.as_dict()))) == one


def test_the_catalogue_can_be_shown_as_a_form() -> None:
    assert len(CATALOGUE) >= 35
    for name, kind in CATALOGUE.items():
        shown = json.loads(json.dumps(kind.as_dict()))
        assert shown["name"] == name
        assert shown["text"].endswith(".")
        names = [parameter["name"] for parameter in shown["parameters"]]
        assert names[-5:] == ["target", "count", "skip", "chance", "for_s"]
        assert len(set(names)) == len(names)
        assert set(shown["where"]) <= {"virtual", "emulator", "live"}


def test_a_point_that_nobody_asks_is_refused(journal: Journal, clock: HandClock) -> None:
    faults = Faults(journal, clock, {"clock": "`twolane simulate`"})
    with pytest.raises(FaultError, match="cannot happen here; it can with `twolane simulate`"):
        faults.inject("clock.skewed")
    assert faults.active() == []


def test_whether_anything_is_armed_for_a_point(faults: Faults) -> None:
    assert not faults.any_at("send", "receive")
    identity = faults.inject("send.failed")
    assert faults.any_at("receive", "send")
    faults.clear(identity)
    assert not faults.any_at("receive", "send")
