"""A schedule, played against an application of a few lines."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.faults.injection import CATALOGUE, Fault
from twolane_local.testing.simulation import play as shrinking
from twolane_local.testing.simulation.invariants import Fact, History, Violation
from twolane_local.testing.simulation.play import (
    Armed,
    Outcome,
    Schedule,
    Step,
    Tally,
    digest,
    draw,
    lines,
    play,
    run_many,
    run_seeds,
    schedule_of,
)
from twolane_local.testing.simulation.simulator import QUEUE, Slot

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.simulation.simulator import Application

pytestmark = pytest.mark.filterwarnings("ignore")


DEFER = Step(3.0, "defer", {"email": "a@example.com", "delay": 0})


def with_api(application: Application, api: Callable[[Any, Any], Any], **more: Any) -> Application:
    functions = dict(application.functions) | {"api": function("api", api)}
    return replace(application, functions=functions, **more)


def answering(status: int, **body: Any) -> Callable[[Any, Any], Any]:
    return lambda *_: {"statusCode": status, "body": json.dumps(body)}


def played(application: Application, *steps: Step, faults: tuple[Armed, ...] = ()) -> Outcome:
    return play(application, Schedule(7, steps, faults, length_s=10.0))


@pytest.mark.parametrize(
    ("step", "path", "asked"),
    [
        (Step(1.0, "notify", {"email": "a@b"}), "/notify", '{"email": "a@b", "message": "hello"}'),
        (Step(1.0, "campaign", {"emails": ["a"]}), "/campaigns",
         '{"recipients": ["a"], "message": "hello"}'),
        (Step(1.0, "import", {"rows": 2}), "/imports",
         "email\nuser0@example.com\nuser1@example.com\n"),
    ],
)  # fmt: skip
def test_a_step_is_a_request_at_its_time(
    application: Application, step: Step, path: str, asked: str
) -> None:
    seen: list[Any] = []

    def api(event: Any, _: Any) -> Any:
        seen.append((event["rawPath"], event["body"]))
        return {"statusCode": 200, "body": "{}"}

    outcome = played(with_api(application, api), step)
    assert seen == [(path, asked)]
    (answered,) = outcome.history.of("request.answered")
    assert (answered.at, answered.data["status"]) == (START + 1.0, 200)


def test_a_202_is_a_promise_but_for_a_campaign_s_report(application: Application) -> None:
    accepting = with_api(application, answering(202, id="t1"))
    outcome = played(accepting, DEFER, Step(4.0, "campaign", {"emails": ["a"]}))
    assert [fact.task for fact in outcome.history.of("enqueue.acknowledged")] == ["t1"]
    # Nothing was enqueued for it, which is what L is about.
    assert [each.invariant for each in outcome.violations] == ["L"]


def test_a_refusal_is_no_promise(application: Application) -> None:
    refusing = with_api(application, answering(503))
    throttled = Armed(0.0, Fault("invocation.throttled", target="api", count=1))
    outcome = played(refusing, DEFER, replace(DEFER, at=4.0), faults=(throttled,))
    assert len(outcome.history.of("request.refused")) == 1
    assert [fact.data["status"] for fact in outcome.history.of("request.answered")] == [503]
    assert outcome.violations == ()
    assert outcome.fired == {"invocation.throttled": 1}


def test_faults_end_with_the_schedule(application: Application) -> None:
    late = Armed(9.0, Fault("invocation.throttled", count=0))
    outcome = played(application, DEFER, faults=(late,))
    assert outcome.fired == {"invocation.throttled": 0}
    assert outcome.history.last_at("faults.ended") == START + 10.0


def test_what_is_left_is_counted(application: Application) -> None:
    """A message that nobody can settle, on a queue whose time to drain is short."""

    def raises(*_: Any) -> None:
        raise ValueError

    def sends(world: Any) -> Any:
        world.loop.call_later(1.0, world.queues.send, QUEUE, NewMessage("poison"))
        return contextlib.nullcontext()

    functions = dict(application.functions) | {"worker": function("worker", raises)}
    failing = replace(application, functions=functions, watched=sends)
    outcome = played(failing)
    (letter,) = outcome.history.of("dead.letter")
    assert letter.data["body"] == "poison"
    assert outcome.violations == ()
    short = replace(failing.bounds, drain_s=0.0, max_receives=50)
    again = played(replace(failing, bounds=short))
    assert len(again.history.of("left.over")) == 1
    assert "V" in {each.invariant for each in again.violations}


def test_beat_owes_its_slots_from_its_first_tick_on(application: Application) -> None:
    asked: list[tuple[float, float]] = []

    def slots(begin: float, end: float) -> list[Slot]:
        asked.append((begin, end))
        return [Slot("digest", begin, "digest-1", "app.digest")]

    outcome = played(replace(application, slots=slots))
    # Without a tick nothing was due before the end.
    assert asked == [(START + 140.0, START + 140.0)]
    assert [each.invariant for each in outcome.violations] == ["S"]


def test_a_revoke_without_anything_to_revoke(application: Application) -> None:
    outcome = played(application, Step(1.0, "revoke", {"number": 2}))
    assert outcome.history.of("operator.failed") == []
    assert outcome.violations == ()


def history(*facts: tuple[float, str, str | None]) -> History:
    return History([Fact(at, kind, task) for at, kind, task in facts])


def test_a_digest_knows_the_course_of_things_not_their_ids() -> None:
    one = history((1.0, "body.taken", "a"), (2.0, "body.taken", "b"), (3.0, "tick", "a"))
    renamed = history((1.0, "body.taken", "x"), (2.0, "body.taken", "y"), (3.0, "tick", "x"))
    other = history((1.0, "body.taken", "a"), (2.0, "body.taken", "b"), (3.0, "tick", "b"))
    assert digest(one) == digest(renamed) != digest(other)
    one.add(Fact(4.0, "log", data={"line": "who cares"}))
    assert digest(one) == digest(renamed)
    one.add(Fact(4.0, "tick"))
    assert digest(one) != digest(renamed)


# Schedules are drawn from a seed, written as JSON, and made smaller.


def test_a_seed_gives_the_same_schedule() -> None:
    assert draw(7) == draw(7)
    assert len({json.dumps(draw(seed).as_dict()) for seed in range(100)}) == 100


def test_a_schedule_is_json_and_back() -> None:
    for seed in range(50):
        one = draw(seed)
        assert schedule_of(json.loads(json.dumps(one.as_dict()))) == one


def test_every_fault_and_action_is_drawn() -> None:
    many = [draw(seed) for seed in range(1500)]
    assert {each.fault.name for one in many for each in one.faults} == set(CATALOGUE)
    actions = {step.action for one in many for step in one.steps}
    assert actions == {"notify", "defer", "campaign", "import", "revoke"}


# What is left out of a schedule. ``test_planted.py`` shrinks a real finding.

WHOLE = Schedule(
    5,
    tuple(
        Step(float(number), action) for number, action in enumerate(("notify", "defer", "import"))
    ),
    tuple(Armed(0.0, Fault(name)) for name in ("send.failed", "store.down", "tick.late")),
)


def names(schedule: Schedule) -> tuple[set[str], set[str]]:
    return {each.action for each in schedule.steps}, {each.fault.name for each in schedule.faults}


@pytest.fixture
def shrunk(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[set[str], set[str]], str]], Schedule]:
    """``shrunk(broken)``: ``broken(steps, faults)`` are the invariants that a schedule breaks."""

    def shrink(broken: Callable[[set[str], set[str]], str]) -> Schedule:
        def play(_: Any, schedule: Schedule) -> Outcome:
            found = tuple(Violation(each, "t", "") for each in broken(*names(schedule)))
            return Outcome(schedule, found, History(), "", {})

        monkeypatch.setattr(shrinking, "play", play)
        return shrinking.shrink(application, play(application, WHOLE)).schedule

    return shrink


def test_only_what_is_needed_stays(shrunk: Any) -> None:
    def broken(steps: set[str], faults: set[str]) -> str:
        return "E" if "defer" in steps and {"store.down", "tick.late"} <= faults else ""

    left = shrunk(broken)
    assert names(left) == ({"defer"}, {"store.down", "tick.late"})
    assert (left.seed, left.length_s) == (WHOLE.seed, WHOLE.length_s)


def test_another_invariant_s_violation_is_another_finding(shrunk: Any) -> None:
    def broken(_: set[str], faults: set[str]) -> str:
        return "E" if "store.down" in faults else "L"

    assert "store.down" in names(shrunk(broken))[1]


def test_what_breaks_by_itself_shrinks_to_nothing(shrunk: Any) -> None:
    assert names(shrunk(lambda *_: "V")) == (set(), set())


def test_what_cannot_be_made_smaller_stays(shrunk: Any) -> None:
    left = shrunk(lambda steps, faults: "M" if len(steps) == 3 and len(faults) == 3 else "")
    assert left == WHOLE


# A run for people.

SCHEDULE = Schedule(
    7,
    (Step(1.0, "defer", {"email": "anna@example.com"}),),
    (Armed(2.0, Fault("send.failed", count=3)),),
)
HISTORY = History(
    [
        Fact(1001.0, "body.taken", task="guilty-task", message="m1", data={"body": "secret"}),
        Fact(1002.0, "fault.injected", data={"name": "send.failed"}),
        Fact(1003.0, "result.changed", task="innocent", data={"status": "SUCCESS"}),
    ]
)


def outcome(*violations: Violation) -> Outcome:
    return Outcome(SCHEDULE, violations, HISTORY, "abc", {"send.failed": 1})


def test_what_went_wrong_is_told_without_the_rest() -> None:
    told = "\n".join(lines(outcome(Violation("L", "guilty-task", "it is gone")), 1000.0))
    assert "seed 7" in told
    assert "1.00 s  defer email=anna@example.com" in told
    assert "! send.failed count=3" in told
    assert "body.taken" in told
    assert "fault.injected" in told
    assert "innocent" not in told
    assert "secret" not in told
    assert "! L guilty-task: it is gone" in told
    assert told.endswith("digest abc")


def test_everything_is_told_on_demand() -> None:
    told = "\n".join(lines(outcome(), 1000.0, everything=True))
    assert "result.changed" in told
    assert "all invariants hold" in told


# Many runs are counted together.

ROOT = Path(__file__).parents[4] / "handlers"


def test_tallies_add_up() -> None:
    tally = Tally(runs=2, faults=Counter(a=1), violations={1: ["x"]}, effects=3, tasks=4)
    tally.add(Tally(runs=5, faults=Counter(a=2, b=1), violations={9: ["y"]}, effects=1, tasks=1))
    told = tally.as_dict()
    assert (told["runs"], told["effects"], told["tasks"]) == (7, 4, 5)
    assert told["faults"] == {"a": 3, "b": 1}
    assert told["violations"] == {"1": ["x"], "9": ["y"]}


def test_seeds_are_run_and_progress_is_told() -> None:
    seen: list[tuple[int, Counter[str]]] = []
    tally = run_many(0, 25, 1, lambda tally: seen.append((tally.runs, Counter(tally.faults))), ROOT)
    assert [runs for runs, _ in seen] == [20, 25]
    assert tally.violations == {}
    assert tally.cpu_seconds > 0
    assert tally.faults == seen[0][1] + run_seeds(range(20, 25), ROOT).faults
