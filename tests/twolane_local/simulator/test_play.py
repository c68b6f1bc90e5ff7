"""A schedule, played against an application of a few lines."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.faults.injection import Fault
from twolane_local.simulator.application import Slot
from twolane_local.simulator.facts import Fact, History
from twolane_local.simulator.play import digest, play
from twolane_local.simulator.schedule import Armed, Schedule, Step
from twolane_local.simulator.world import QUEUE

from .conftest import START, function

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.application import Application
    from twolane_local.simulator.play import Outcome

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
