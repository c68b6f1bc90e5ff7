"""What must hold of a primitive, as a function of a history."""

from __future__ import annotations

from typing import Any

from twolane_local.simulator.exhaustive.judgement import judged
from twolane_local.simulator.exhaustive.primitives import Primitive
from twolane_local.simulator.facts import Fact, History

CHAIN = Primitive("chain", effects=("first", "second"), ordered=True, value=2)
DONE = {"status": "SUCCESS", "result": 2}


def effect(what: str, task: str = "t1", where: str = "worker-1") -> Fact:
    data = {"what": what, "lease": f"{task} {what}", "holder": where}
    return Fact(1.0, "effect.committed", task, None, None, where, data)


def strike(where: str | None, kind: str = "killed") -> Fact:
    return Fact(1.0, "fault.injected", None, None, None, where, {"strike": kind})


def failed(task: str) -> Fact:
    return Fact(1.0, "result.changed", task, data={"status": "FAILURE"})


def found(*facts: Fact, last: dict[str, Any] | None = DONE, promised: bool = True) -> list[str]:
    results = {"t2": last} if promised else {}
    told = judged(History(list(facts)), CHAIN, results)
    return [f"{each.invariant} {each.told}" for each in told]


def test_all_is_well() -> None:
    assert found(effect("first"), effect("second")) == []


def test_what_was_promised_has_its_state_and_value() -> None:
    both = effect("first"), effect("second")
    assert found(*both, last=None) == ["C None at the end: None"]
    assert found(*both, last={"status": "FAILURE", "result": "x"}) == ["C FAILURE at the end: x"]
    assert found(*both, last={"status": "SUCCESS", "result": 3}) == ["C 3 and not 2"]


def test_what_was_not_promised_is_not_missed() -> None:
    assert found(effect("first"), promised=False) == []


def test_each_effect_happens_in_order_and_no_other() -> None:
    assert found(effect("first")) == ["C never happened, although all went well"]
    assert found(effect("second"), effect("first")) == ["C in another order: second, first"]
    assert found(effect("first"), effect("second"), effect("third")) == [
        "C nothing of the kind was to happen"
    ]


def test_a_task_that_is_made_to_fail_has_but_to_end() -> None:
    raised = strike("worker-1", "raises")
    assert found(raised, failed("t1"), last=None) == []
    assert found(raised, last=None) == ["C promised, and None at the end"]


def test_an_effect_happens_twice_only_where_its_own_environment_was_struck_in_between() -> None:
    first, again = effect("first"), effect("first", where="worker-2")
    rest = effect("second")
    assert found(first, strike("worker-1"), again, rest) == []
    for unrelated in (strike("worker-2"), strike(None)):
        assert found(first, unrelated, again, rest) == [
            "D first happened again, and nothing explains it"
        ]
    assert found(strike("worker-1"), first, again, rest) == [
        "D first happened again, and nothing explains it"
    ]


def test_a_callback_that_was_published_twice_is_two_tasks() -> None:
    assert found(effect("first"), effect("first", task="t9"), effect("second")) == []


def test_good_work_is_not_dead_lettered() -> None:
    dead = Fact(9.0, "dead.letter", "t1", "m1", data={"body": "{}"})
    told = found(effect("first"), effect("second"), dead)
    assert "G dead-lettered, though nothing is wrong" in told
