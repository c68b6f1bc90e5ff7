"""One run of a primitive: whole where nothing strikes, the same each time, and it bites."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.errors import LocalError
from twolane_local.testing.simulation.invariants import Fact, History
from twolane_local.testing.simulation.placements import STORES, Placement, judged, placement_of
from twolane_local.testing.simulation.primitives import PRIMITIVES, Primitive

if TYPE_CHECKING:
    from twolane_local.testing.simulation.placements import Crossing, Explorer, Run

pytestmark = pytest.mark.filterwarnings("ignore")


def singles(explorer: Explorer, primitive: str, store: str, point: str, kind: str) -> list[Run]:
    """A run for each crossing of this kind of point."""
    base = explorer.run(Placement(primitive, store))
    return [
        explorer.run(base.placement.then(each.number, kind))
        for each in base.crossings
        if each.point == point and kind in each.kinds
    ]


def invariants(runs: list[Run]) -> set[str]:
    return {each.invariant for run in runs for each in run.violations}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_without_a_strike_all_goes_well(
    explorers: dict[str, Explorer], primitive: str, store: str
) -> None:
    run = explorers[store].run(Placement(primitive, store))
    assert run.violations == ()
    happened = {str(fact.data["what"]) for fact in run.history.of("effect.committed")}
    expected = set(PRIMITIVES[primitive].effects) if primitive != "revoke" else set()
    assert expected <= happened
    assert len(run.crossings) > 30
    assert {each.point for each in run.crossings} >= {"store", "call.after", "send", "receive"}


@pytest.mark.parametrize("store", STORES)
def test_a_run_is_the_same_each_time(explorers: dict[str, Explorer], store: str) -> None:
    placement = Placement("chord", store, ((20, "killed"), (60, "paused")))
    first = explorers[store].run(placement)
    number = next(
        each.number for each in first.crossings if each.number > 40 and "killed" in each.kinds
    )
    placement = Placement("chord", store, ((number, "killed"),))
    first, again = (explorers[store].run(placement) for _ in range(2))
    assert first.missed == again.missed == 0
    assert first.digest == again.digest
    assert first.crossings == again.crossings


def test_the_points_of_a_store_are_those_of_its_calls(explorers: dict[str, Explorer]) -> None:
    calls = {
        store: {each.target.partition(" ")[0] for each in run.crossings if each.point == "store"}
        for store, explorer in explorers.items()
        for run in [explorer.run(Placement("task", store))]
    }
    assert {"MGET", "SET", "EVALSHA"} <= calls["redis"]
    assert {"BatchGetItem", "PutItem", "TransactWriteItems"} <= calls["dynamodb"]


def test_a_call_to_scheduler_is_a_point_before_and_after(redis: Explorer) -> None:
    """It fails, has its effect and the answer is lost, or is the last thing that is done."""
    run = redis.run(Placement("eta-scheduled", "redis"))
    points = [each.point for each in run.crossings if each.target == "CreateSchedule"]
    assert points == ["schedule", "call.after", "schedule.done"]
    for point, kind in (("schedule", "fails"), ("schedule.done", "answer-lost")):
        (struck,) = singles(redis, "eta-scheduled", "redis", point, kind)
        assert (struck.violations, struck.missed) == ((), 0)


def test_a_strike_that_never_comes_is_told(redis: Explorer) -> None:
    assert redis.run(Placement("task", "redis", ((9999, "killed"),))).missed == 1


@pytest.mark.parametrize("name", ["chord/redis/12:killed+31:answer-lost", "task/dynamodb/none"])
def test_a_name_is_its_placement(name: str) -> None:
    assert placement_of(name).name == name


@pytest.mark.parametrize("name", ["chord", "chord/redis/x:killed", "chord/redis/1", "a/redis/none"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(LocalError, match=r"names no schedule|there is no primitive"):
        placement_of(name)


# What it has found, and was mended.


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_a_tick_that_stood_still_beyond_its_claim_sends_nothing(
    explorers: dict[str, Explorer], store: str
) -> None:
    """The slot's task had run more than five minutes before, and ran again."""
    runs = singles(explorers[store], "beat", store, "call.after", "frozen")
    assert len(runs) > 10
    assert invariants(runs) == set()


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_a_step_that_is_published_again_much_later_does_not_run_again(
    explorers: dict[str, Explorer], store: str
) -> None:
    """A step was killed once it had published the next one, and came back after six minutes."""
    runs = singles(explorers[store], "chain", store, "call.after", "killed")
    assert len(runs) > 10
    assert invariants(runs) == set()


@pytest.mark.parametrize("store", STORES)
def test_an_environment_that_wakes_too_late_calls_no_errback(
    explorers: dict[str, Explorer], store: str
) -> None:
    """Its task has failed in the hands of another environment, which has called it."""
    runs = singles(explorers[store], "errback-inline", store, "call.after", "frozen")
    assert len(runs) > 10
    assert invariants(runs) == set()


@pytest.mark.slow
def test_an_errback_is_not_lost_with_a_store_that_is_down(redis: Explorer) -> None:
    """Celery subscribed to the errback's result before it published it, in vain."""
    runs = singles(redis, "failing-chord", "redis", "store", "outage")
    assert len(runs) > 10
    assert invariants(runs) == set()


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_an_environment_that_wakes_too_late_leaves_the_lease_alone(
    explorers: dict[str, Explorer], store: str
) -> None:
    """Its successor had stored the header's result, and not counted it yet: a copy was to come,
    which found the work done, and the chord never ended.
    """
    base = explorers[store].run(Placement("failing-chord", store))
    (frozen,) = [
        base.placement.then(each.number, "frozen")
        for each in base.crossings
        if each.point == "effect.after"
    ][:1]
    after = explorers[store].run(frozen).crossings[frozen.strikes[0][0] + 1 :]
    runs = [
        explorers[store].run(frozen.then(each.number, "answer-lost"))
        for each in after
        if each.point == "store.done"
    ]
    assert len(runs) > 10
    assert invariants(runs) == set()


# Bugs planted in the product: some placement finds each.


@pytest.mark.parametrize("store", STORES)
def test_leases_that_exclude_nobody(
    explorers: dict[str, Explorer], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invariants(singles(explorers[store], "task", store, "delete", "twice")) == set()
    monkeypatch.setattr("twolane.worker.lease.Leases.obstacle", lambda *_, **__: None)
    assert invariants(singles(explorers[store], "task", store, "delete", "twice")) >= {"D", "E"}


def test_work_that_is_acknowledged_before_it_is_done(
    redis: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert invariants(singles(redis, "task", "redis", "store", "outage")) == set()
    monkeypatch.setattr("twolane.worker.handler.response", lambda _: {"batchItemFailures": []})
    assert "L" in invariants(singles(redis, "task", "redis", "store", "outage"))


def test_a_hop_that_is_not_sent(redis: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twolane.worker.aws.Sqs.send", lambda *_, **__: None)
    run = redis.run(Placement("eta", "redis"))
    assert {"L", "C"} <= invariants([run])


@pytest.mark.slow
def test_a_table_without_conditions(dynamodb: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a lease has it."""
    from twolane.state.dynamodb import DynamoDBStore

    def swap(self: Any, key: str, _: Any, value: str, *, ttl_s: float, head: Any = None) -> None:
        self.put(key, value, ttl_s=ttl_s)

    assert invariants(singles(dynamodb, "eta", "dynamodb", "delete", "twice")) == set()
    monkeypatch.setattr(DynamoDBStore, "swap", swap)
    assert invariants(singles(dynamodb, "eta", "dynamodb", "delete", "twice")) >= {"D", "E"}


@pytest.mark.slow
@pytest.mark.parametrize("store", STORES)
def test_a_retry_whose_attempt_was_killed_waits_for_its_lease(
    explorers: dict[str, Explorer], store: str
) -> None:
    """It looked again each second, and was in the dead-letter queue before the lease had ended."""
    runs = singles(explorers[store], "retry", store, "call.after", "killed")
    assert len(runs) > 10
    assert invariants(runs) == set()


@pytest.mark.slow
def test_a_chord_that_is_to_be_completed_later_keeps_its_size(redis: Explorer) -> None:
    """Celery dropped it with the error, and the environment was killed before it was put back."""
    runs = [
        redis.run(struck.placement.then(each.number, "killed"))
        for struck in singles(redis, "chord", "redis", "store.done", "answer-lost")
        for each in _next(struck, "killed")
    ]
    assert len(runs) > 20
    assert invariants(runs) == set()


def _next(run: Run, kind: str, most: int = 2) -> list[Crossing]:
    """The crossings after the last strike at which this kind can strike."""
    (number, _) = run.placement.strikes[-1]
    return [each for each in run.crossings if each.number > number and kind in each.kinds][:most]


@pytest.mark.parametrize("store", ["redis", pytest.param("dynamodb", marks=pytest.mark.slow)])
def test_a_time_limit_in_a_chords_completion_fails_no_chord(
    explorers: dict[str, Explorer], store: str
) -> None:
    """Its environment stood still and woke too late; another one had sent the body meanwhile."""
    frozen = singles(explorers[store], "chord", store, "call.after", "frozen")
    runs = [
        explorers[store].run(struck.placement.then(each.number, "killed"))
        for struck in frozen
        if _reads_the_header(struck)
        for each in struck.crossings
        if each.number > struck.placement.strikes[-1][0]
        and each.point == "call.after"
        and "lease" in each.target
    ]
    assert len(runs) > 3
    assert invariants(runs) == set()


def _reads_the_header(run: Run) -> bool:
    number = run.placement.strikes[-1][0]
    target = next(each.target for each in run.crossings if each.number == number)
    return target.startswith("GET ") or "taskset" in target


# What must hold of a primitive, as a function of a history.

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
