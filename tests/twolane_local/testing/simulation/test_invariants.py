"""Each invariant holds for a sound history, and catches a bug that is planted for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from twolane_local.clock.virtual import NEW_YEAR, VirtualClock, VirtualLoop
from twolane_local.journal import KINDS, Journal
from twolane_local.testing.simulation.invariants import (
    CHECKS,
    OWN,
    Bounds,
    Fact,
    History,
    violations,
)

KEY = "twolane:lease:t1"


def lease(at: float, state: str | None, holder: str = "h1", publish: str = "p1") -> Fact:
    data: dict[str, Any] = {"key": KEY, "state": state}
    if state is not None:
        data |= {"holder": holder, "publish": publish, "since": at, "until": at + 60}
    return Fact(at, "lease.changed", task="t1", data=data)


def result(at: float, status: str | None, task: str = "t1") -> Fact:
    return Fact(at, "result.changed", task=task, data={"status": status})


def effect(at: float, holder: str = "h1") -> Fact:
    return Fact(at, "effect.committed", task="t1", data={"lease": KEY, "holder": holder})


def taken(at: float, task: str = "t1", message: str = "m1", name: str = "a.task") -> Fact:
    return Fact(
        at, "body.taken", task=task, message=message, data={"body": "the body", "name": name}
    )


def received(at: float, count: int) -> Fact:
    return Fact(at, "message.received", message="m1", data={"receiveCount": count})


def dead(body: str = "the body") -> Fact:
    return Fact(99.0, "dead.letter", task="t1", message="m1", data={"body": body})


ENDED = [Fact(50.0, "faults.ended"), Fact(90.0, "run.ended")]

#: One task that is enqueued, runs once, and ends well.
SOUND = [
    taken(1.0),
    Fact(1.0, "enqueue.acknowledged", task="t1"),
    received(1.0, 1),
    lease(1.0, "running"),
    result(1.0, "STARTED"),
    effect(2.0),
    result(3.0, "SUCCESS"),
    lease(3.0, "done"),
    Fact(3.0, "message.deleted", message="m1"),
    *ENDED,
]


def test_a_sound_history_breaks_none() -> None:
    assert violations(History(SOUND)) == []


def without(*kinds: str) -> list[Fact]:
    return [fact for fact in SOUND if fact.kind not in kinds]


SLOT = Fact(60.0, "slot.due", task="s1", data={"entry": "digest", "slot": 42.0, "name": "a.digest"})

PLANTED: dict[str, tuple[str, list[Fact]]] = {
    "acknowledged before it was sent": ("L", [Fact(1.0, "enqueue.acknowledged", task="lost")]),
    "deleted without an outcome": ("L", without("result.changed")),
    "stuck in a retry": ("L", [*without("result.changed"), result(3.0, "RETRY")]),
    "vanished from the queue": ("L", without("message.deleted")),
    "the effect is repeated under one lease": ("E", [*SOUND, effect(2.5)]),
    "runs without a lease": (
        "E",
        [*SOUND, Fact(2.5, "effect.committed", task="t1", data={"lease": None, "holder": None})],
    ),
    "a lease is granted while another is in force": (
        "E",
        [*SOUND[:5], lease(2.0, "running", "h2"), *SOUND[5:]],
    ),
    "finished work is granted again": ("E", [*SOUND, lease(400.0, "running", "h2")]),
    "a copy runs right after": ("E", [*SOUND, lease(4.0, "running", "h2", "p2")]),
    "a success is overwritten": ("M", [*SOUND, result(4.0, "STARTED")]),
    "a revoked task fails": (
        "M",
        [*without("result.changed"), result(2.0, "REVOKED"), result(3.0, "FAILURE")],
    ),
    "a revoked task runs": ("M", [SOUND[0], result(-5.0, "REVOKED"), *SOUND[1:]]),
    "received without end": ("B", [*SOUND, *(received(2.0 + n, 2 + n) for n in range(5))]),
    "the body is changed on its way": ("B", [*without("message.deleted"), dead("another body")]),
    "never drained": ("V", [*SOUND, Fact(99.0, "left.over", task="t1", message="m1")]),
    "drained too late": (
        "V",
        [*without("run.ended"), Fact(50.0 + 7201.0, "run.ended")],
    ),
    "a slot is missed": ("S", [*SOUND, SLOT]),
    "a slot is enqueued twice": (
        "S",
        [
            *SOUND,
            SLOT,
            *(taken(60.0, task, task, "a.digest") for task in ("s1", "s2")),
        ],
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_bug_is_caught(planted: str) -> None:
    invariant, facts = PLANTED[planted]
    found = {each.invariant for each in CHECKS[invariant](History(facts), Bounds())}
    assert found == {invariant}


def test_every_invariant_has_a_planted_bug() -> None:
    assert {invariant for invariant, _ in PLANTED.values()} == set(CHECKS)


@pytest.mark.parametrize(
    "allowed",
    [
        [*SOUND, lease(400.0, "running", "h2", "p2")],  # the id is used again, later
        [*SOUND[:4], lease(70.0, "running", "h2"), *SOUND[5:]],  # the first lease has run out
        [*without("result.changed"), Fact(3.0, "task.expired", task="t1")],
        [*without("result.changed", "message.deleted"), dead()],
        [*SOUND, result(4.0, "SUCCESS")],
        [SOUND[0], result(0.9, "REVOKED"), *SOUND[1:]],  # too late for the second of its start
    ],
)
def test_what_is_allowed_is_no_violation(allowed: list[Fact]) -> None:
    assert violations(History(allowed)) == []


def test_what_the_store_has_lost_excuses_its_task_and_no_other() -> None:
    lost = Fact(2.0, "write.lost", task="t1", data={"key": KEY})
    facts = [*SOUND, result(4.0, "STARTED")]
    assert violations(History([*facts, lost])) == []
    others = [replace(fact, task="t2") if fact.task == "t1" else fact for fact in facts]
    assert {each.invariant for each in violations(History([*others, lost]))} == {"M"}


@pytest.mark.parametrize(("times", "broken"), [(3, {"M"}), (4, set())])
def test_a_publisher_that_lost_all_its_answers_cannot_know(times: int, broken: set[str]) -> None:
    lost = [Fact(2.0, "answer.lost", task="t1")] * times
    facts = [*SOUND[:-2], result(4.0, "FAILURE"), *lost, *ENDED]
    assert {each.invariant for each in violations(History(facts))} == broken


@pytest.mark.parametrize(("copied_at", "broken"), [(2.5, {"M"}), (3.5, set())])
def test_a_copy_runs_again_only_where_it_was_sent_after_the_failure(
    copied_at: float, broken: set[str]
) -> None:
    facts = [
        *without("result.changed", "faults.ended", "run.ended"),
        result(3.0, "FAILURE"),
        Fact(copied_at, "answer.lost", task="t1"),
        taken(copied_at, message="m2"),
        Fact(copied_at, "message.deleted", message="m2"),
        result(4.0, "STARTED"),
        *ENDED,
    ]
    assert {each.invariant for each in violations(History(facts))} == broken


@pytest.mark.parametrize("sender", [[Fact(2.0, "answer.lost", task="t1")], []])
@pytest.mark.parametrize(("named", "broken"), [("gone.in.this.deploy", set()), ("a.mail", {"M"})])
def test_a_copy_runs_where_the_first_one_s_task_was_unknown(
    sender: list[Fact], named: str, broken: set[str]
) -> None:
    facts = [
        *without("result.changed", "faults.ended", "run.ended"),
        *sender,
        replace(taken(2.0, message="m2"), data={"body": "b", "name": "a.mail"}),
        Fact(2.0, "message.deleted", message="m2"),
        result(3.0, "FAILURE"),
        Fact(3.0, "task.rejected", task="t1", data={"taskName": named}),
        result(4.0, "STARTED"),
        result(4.0, "SUCCESS"),
        *ENDED,
    ]
    assert {each.invariant for each in violations(History(facts))} == broken


def test_what_failed_with_its_chain_before_it_was_sent_may_run() -> None:
    bounds = Bounds()
    ahead = History([result(1, "FAILURE"), taken(2), result(3, "STARTED")])
    assert not list(CHECKS["M"](ahead, bounds))
    sent_before = History([taken(0), result(1, "FAILURE"), taken(2), result(3, "STARTED")])
    assert [each.invariant for each in CHECKS["M"](sent_before, bounds)] == ["M"]


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
