"""The checker bites: each thing that may not be, put into a campaign that was sound, is said."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .checker import Seen, check, expected, outstanding
from .plan import FAULTS, Plan, draw

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


def sound(plan: Plan) -> Seen:
    """What would be seen if all had gone well, each unit in an environment of its own."""
    told, effects, results, dead = [], [], {}, []
    for number, unit in enumerate(plan.units):
        at = 1000.0 + 20 * number
        told.append({**unit.as_dict(), "acknowledged": True, "sent_at": at, "answered_at": at})
        one = expected(told[-1])
        inputs = {"chord": {"campaign.total": [list(range(20))]},
                  "nested": {"campaign.total": [[2, 3, 4], [0, 1, 9, 5]]}}  # fmt: skip
        given = copy.deepcopy(inputs.get(unit.kind, {}))
        t = at + unit.options.get("countdown", 0.0)
        for task, name, index, attempt in sorted(one.effects, key=_inner_total_first):
            line = {"task": task, "id": f"{unit.unit}-{index}", "attempt": attempt, "pid": number}
            if task in {"campaign.mourn", "campaign.lament"}:
                line["failed"] = name
            else:
                line |= {"unit": unit.unit, "index": index}
            got = list(range(index)) if task == "campaign.step" else given.get(task, [None]).pop(0)
            effects.append({**line, "what": "begun", "t": t})
            effects.append({**line, "what": "effect", "t": t + 0.01, "got": got})
            effects.append({**line, "what": "settled", "t": t + 0.02})
            t += 0.1
        for task_id, (status, value) in one.results.items():
            anything = not isinstance(value, (int, list, type(None)))
            results[task_id] = {"status": status, "result": {} if anything else value}
        for task_id, states in one.either.items():
            results[task_id] = {"status": states[0], "result": unit.unit}
        bodies = [
            *one.dead_bodies,
            *filter(None, [one.ran_or_dead]),
            *(json.dumps({"id": each}) for each in one.dead_ids),
        ]
        dead += [{"body": body, "id": "m", "receives": 7} for body in bodies]
    return Seen(told, [], effects, results, {"tasks": 0}, dead)


def _inner_total_first(key: tuple[str, str, int, int]) -> bool:
    return key[0] == "campaign.total" and key[2] == 0


@pytest.fixture
def plan() -> Plan:
    return draw(7, 600, 4, [])


@pytest.fixture
def seen(plan: Plan) -> Seen:
    return sound(plan)


def first(seen: Seen, kind: str) -> dict[str, Any]:
    return next(unit for unit in seen.told if unit["kind"] == kind)


def lines_of(seen: Seen, unit: dict[str, Any], task: str) -> list[dict[str, Any]]:
    return [
        line for line in seen.effects if line["task"] == task and line.get("unit") == unit["unit"]
    ]


def again(seen: Seen, unit: dict[str, Any], task: str, *, after_s: float = 2.0) -> None:
    """The unit's first run of this task a second time, in another environment."""
    copies = copy.deepcopy(lines_of(seen, unit, task)[:3])
    for line in copies:
        line["t"] += after_s
        line["pid"] = 90_000
    seen.effects.extend(copies)


def test_a_sound_campaign_of_every_kind_has_no_violation(plan: Plan, seen: Seen) -> None:
    from .driver import check as the_drivers
    from .plan import WEIGHTS

    assert {unit.kind for unit in plan.units} == {*WEIGHTS, "chord", "nested"}
    assert the_drivers(seen).violations == []
    assert outstanding(seen.told, seen.results) == []


def lost(seen: Seen) -> str:
    unit = first(seen, "plain")
    del seen.results[unit["ids"][0]]
    seen.effects[:] = [line for line in seen.effects if line.get("unit") != unit["unit"]]
    return "lost: campaign.plain"


def no_outcome(seen: Seen) -> str:
    unit = first(seen, "flaky")
    seen.results[unit["ids"][0]] = {"status": "STARTED", "result": {}}
    return "no outcome, its state is STARTED"


def doubled_chord(seen: Seen) -> str:
    again(seen, first(seen, "chord"), "campaign.total")
    return "twice: campaign.total"


def chord_that_never_fired(seen: Seen) -> str:
    unit = first(seen, "chord")
    seen.effects[:] = [
        line for line in seen.effects
        if not (line["task"] == "campaign.total" and line.get("unit") == unit["unit"])
    ]  # fmt: skip
    return "lost: campaign.total"


def chord_with_a_part_missing(seen: Seen) -> str:
    lines_of(seen, first(seen, "chord"), "campaign.total")[1]["got"].pop()
    return "false: campaign.total 0 was given"


def inner_chord_with_another_s_parts(seen: Seen) -> str:
    lines_of(seen, first(seen, "nested"), "campaign.total")[1]["got"] = [0, 1]
    return "false: campaign.total 1 was given"


def doubled_plain(seen: Seen) -> str:
    again(seen, first(seen, "repeated"), "campaign.plain")
    return "twice: campaign.plain"


def doubled_attempt(seen: Seen) -> str:
    again(seen, first(seen, "flaky"), "campaign.flaky")
    return "twice: campaign.flaky"


def false_failure(seen: Seen) -> str:
    seen.results[first(seen, "group")["ids"][0]] = {"status": "FAILURE", "result": {"exc": "E"}}
    return "is FAILURE and not SUCCESS"


def false_success(seen: Seen) -> str:
    seen.results[first(seen, "doomed")["ids"][0]] = {"status": "SUCCESS", "result": None}
    return "is SUCCESS and not FAILURE"


def wrong_result(seen: Seen) -> str:
    seen.results[first(seen, "chord")["ids"][-1]]["result"] += 1
    return "false: the result of"


def chain_out_of_order(seen: Seen) -> str:
    for line in lines_of(seen, first(seen, "chain"), "campaign.step")[:3]:
        line["t"] += 10
    return "order: campaign.step"


def callback_before_its_task(seen: Seen) -> str:
    for line in lines_of(seen, first(seen, "link"), "campaign.plain"):
        line["t"] += 10
    return "order: campaign.linked"


def errback_missing(seen: Seen) -> str:
    unit = first(seen, "errback")
    seen.effects[:] = [line for line in seen.effects if line.get("failed") != unit["ids"][0]]
    return "lost: campaign.mourn"


def inline_errback_missing(seen: Seen) -> str:
    unit = first(seen, "errback-inline")
    seen.effects[:] = [line for line in seen.effects if line.get("failed") != unit["ids"][0]]
    return "lost: campaign.lament"


def before_its_eta(seen: Seen) -> str:
    for line in lines_of(seen, first(seen, "eta"), "campaign.plain"):
        line["t"] -= 1
    return "early: campaign.plain"


def expired_and_run(seen: Seen) -> str:
    unit = first(seen, "expired")
    line = {"task": "campaign.plain", "id": "i", "attempt": 0, "unit": unit["unit"], "index": 0,
            "pid": 1, "t": 5.0}  # fmt: skip
    seen.effects.extend([{**line, "what": "begun"}, {**line, "what": "effect"}])
    return "uncalled: campaign.plain"


def malformed_lost(seen: Seen) -> str:
    body = first(seen, "malformed")["bodies"][0]
    seen.dead[:] = [letter for letter in seen.dead if letter["body"] != body]
    return "dead letters: 0 with the body"


def malformed_changed(seen: Seen) -> str:
    body = first(seen, "malformed")["bodies"][0]
    next(letter for letter in seen.dead if letter["body"] == body)["body"] += " "
    return "dead letters: 0 with the body"


def odd_lost(seen: Seen) -> str:
    body = first(seen, "odd")["bodies"][0]
    seen.dead[:] = [letter for letter in seen.dead if letter["body"] != body]
    return "odd: it ran 0 times, and is 0 times a dead letter"


def odd_ran_and_dead(seen: Seen) -> str:
    unit = first(seen, "odd")
    line = {"task": "campaign.plain", "id": "i", "attempt": "x", "unit": unit["unit"], "index": 0,
            "pid": 1, "t": 5.0}  # fmt: skip
    seen.effects.extend([{**line, "what": "begun"}, {**line, "what": "effect"}])
    return "odd: it ran 1 times, and is 1 times a dead letter"


def unknown_lost(seen: Seen) -> str:
    task_id = first(seen, "unknown")["ids"][0]
    seen.dead[:] = [letter for letter in seen.dead if task_id not in letter["body"]]
    return "dead letters: 0 of"


def unknown_dead_twice(seen: Seen) -> str:
    task_id = first(seen, "unknown")["ids"][0]
    seen.dead.append(next(letter for letter in seen.dead if task_id in letter["body"]))
    return "dead letters: 2 of"


def good_work_dead(seen: Seen) -> str:
    task_id = first(seen, "plain")["ids"][0]
    seen.dead.append({"body": json.dumps({"id": task_id}), "id": "m", "receives": 7})
    return "dead letter of good work"


def left_over(seen: Seen) -> str:
    seen.left["tasks"] = 2
    return "left over: 2 messages on tasks"


def received_too_often(seen: Seen) -> str:
    begun = lines_of(seen, first(seen, "plain"), "campaign.plain")[0]
    seen.effects.extend([begun] * 6)
    return "received too often"


DOCTORED = [
    lost, no_outcome, doubled_chord, chord_that_never_fired, chord_with_a_part_missing,
    inner_chord_with_another_s_parts, doubled_plain, doubled_attempt, false_failure, false_success,
    wrong_result, chain_out_of_order, callback_before_its_task, errback_missing,
    inline_errback_missing, before_its_eta, expired_and_run, malformed_lost, malformed_changed,
    odd_lost, odd_ran_and_dead, unknown_lost, unknown_dead_twice, good_work_dead, left_over,
    received_too_often,
]  # fmt: skip


@pytest.mark.parametrize("doctor", DOCTORED)
def test_what_may_not_be_is_said(seen: Seen, doctor: Callable[[Seen], str]) -> None:
    said = doctor(seen)
    violations = check(seen).violations
    assert any(said in violation for violation in violations), violations


def fault(name: str, at: float, until: float, *pids: int) -> dict[str, Any]:
    return {"fault": name, "at": at, "until": until, "pids": list(pids)}


def unsettled(seen: Seen) -> tuple[float, int]:
    """A plain task that ran twice, the first time without an end; when it began, and where."""
    unit = first(seen, "plain")
    again(seen, unit, "campaign.plain")
    begun, _, settled = lines_of(seen, unit, "campaign.plain")[:3]
    seen.effects.remove(settled)
    return begun["t"], begun["pid"]


def test_a_kill_explains_what_it_cut_off(seen: Seen) -> None:
    began, pid = unsettled(seen)
    seen.faults.append(fault("environment.killed", began + 0.5, began + 0.5, pid))
    verdict = check(seen)
    assert verdict.violations == []
    assert verdict.explained == {"environment.killed": 1}
    assert f"of [{pid}]" in verdict.duplicates[0]


@pytest.mark.parametrize(
    ("name", "after_s", "same"),
    [
        ("environment.killed", 0.5, False),  # another environment
        ("environment.killed", 5.0, True),  # after the second run
        ("environment.killed", -5.0, True),  # before the first
        ("visibility.stolen", 0.5, True),
        ("queue.two-deliveries-at-once", 0.5, True),
        ("store.killed", -5.0, True),
    ],
)
def test_what_does_not_explain_it(seen: Seen, name: str, after_s: float, same: bool) -> None:
    began, pid = unsettled(seen)
    at = began + after_s
    seen.faults.append(fault(name, at, at, pid if same else pid + 1))
    assert any("twice: " in violation for violation in check(seen).violations)


def test_a_kill_does_not_explain_what_had_its_end_before(seen: Seen) -> None:
    unit = first(seen, "plain")
    again(seen, unit, "campaign.plain", after_s=9.0)
    settled = lines_of(seen, unit, "campaign.plain")[2]
    seen.faults.append(
        fault("environment.killed", settled["t"] + 3, settled["t"] + 3, settled["pid"])
    )
    assert any("twice: " in violation for violation in check(seen).violations)


def test_a_timeout_explains_what_was_never_heard_of_again(seen: Seen) -> None:
    began, _ = unsettled(seen)
    seen.faults.append(fault("function.timeout", began + 20, began + 20))
    assert any("twice: " in violation for violation in check(seen).violations)
    seen.faults.append(fault("function.timeout", began + 12, began + 12))
    assert check(seen).violations == []


@pytest.mark.parametrize("name", ["store.killed", "store.slow", "emulator.killed", "store.frozen"])
def test_an_outage_explains_what_it_overlaps(seen: Seen, name: str) -> None:
    began, _ = unsettled(seen)
    seen.faults.append(fault(name, began - 1, began + 1))
    assert check(seen).violations == []


def replaced_by_a_chain(seen: Seen) -> dict[str, Any]:
    return next(
        unit for unit in seen.told if unit["kind"] == "replace" and unit["options"]["steps"]
    )


@pytest.mark.parametrize("swapped_twice", [True, False])
@pytest.mark.parametrize("new_ids", [True, False])
def test_what_a_task_published_anew_is_explained_with_its_own_second_run(
    seen: Seen, swapped_twice: bool, new_ids: bool
) -> None:
    unit = replaced_by_a_chain(seen)
    first_run = lines_of(seen, unit, "campaign.swap")
    if swapped_twice:
        again(seen, unit, "campaign.swap", after_s=5.0)
        seen.effects.remove(first_run[2])
        at, pid = first_run[0]["t"] + 0.05, first_run[0]["pid"]
        seen.effects[:] = [
            {**line, "pid": 80_000} if line["task"] == "campaign.step"
            and line["unit"] == unit["unit"] else line for line in seen.effects
        ]  # fmt: skip
        seen.faults.append(fault("environment.killed", at, at, pid))
    for line in copy.deepcopy(lines_of(seen, unit, "campaign.step")):
        changed = {"id": f"new-{line['index']}"} if new_ids else {}
        seen.effects.append({**line, **changed, "t": line["t"] + 6.0, "pid": 90_001})
    twice = [each for each in check(seen).violations if each.startswith("twice: ")]
    assert (not twice) == (swapped_twice and new_ids), twice


def test_work_that_was_not_acknowledged_may_be_there_or_not(seen: Seen) -> None:
    unit, other = (unit for unit in seen.told if unit["kind"] == "chord"), None
    for other in list(unit)[:2]:
        other["acknowledged"] = False
    assert other is not None
    seen.effects[:] = [line for line in seen.effects if line.get("unit") != other["unit"]]
    for each in other["ids"]:
        del seen.results[each]
    assert check(seen).violations == []
    doubled_chord(seen)
    assert any("twice: campaign.total" in each for each in check(seen).violations)


def test_a_failure_is_excused_only_while_sqs_takes_nothing(seen: Seen) -> None:
    unit = first(seen, "chain")
    began = lines_of(seen, unit, "campaign.step")[0]["t"]
    seen.results[unit["ids"][0]] = {"status": "FAILURE", "result": {}}
    assert check(seen).violations
    seen.faults.append(fault("disk.full", began + 500, began + 501))
    assert check(seen).violations
    seen.faults.append(fault("disk.full", began - 1, began + 1))
    verdict = check(seen)
    assert verdict.violations == []
    assert verdict.refused == [f"chain {unit['unit']}: disk.full"]


def test_an_answer_that_was_lost_explains_a_second_dead_letter(seen: Seen) -> None:
    unknown_dead_twice(seen)
    seen.faults.append(
        {"fault": "send.reply-lost", "at": 1.0, "until": 1.0, "pids": [], "times": 1}
    )
    verdict = check(seen)
    assert (verdict.violations, verdict.explained["send.reply-lost"]) == ([], 1)


def test_the_same_seed_draws_the_same_campaign() -> None:
    faults = list(FAULTS)
    assert draw(3, 500, 5, faults) == draw(3, 500, 5, faults)
    assert draw(3, 500, 5, faults) != draw(4, 500, 5, faults)
    assert {strike.fault for strike in draw(3, 500, 5, faults).strikes} == set(faults)


def test_the_checker_imports_nothing_of_the_product() -> None:
    for name in ("checker.py", "collect.py", "plan.py", "strikes.py", "system.py", "driver.py"):
        text = (HERE / name).read_text()
        assert "import twolane" not in text, name
        assert "from twolane" not in text, name
