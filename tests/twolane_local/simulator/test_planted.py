"""Bugs planted in the product itself: the simulator finds each, and shrinks what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.faults.injection import Fault
from twolane_local.simulator.play import play
from twolane_local.simulator.schedule import Armed, Schedule, Step
from twolane_local.simulator.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.simulator.application import Application

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    from twolane_local.simulator.demo import demo

    with demo(ROOT / "handlers") as loaded:
        yield loaded


def schedule(fault: str, **options: Any) -> Schedule:
    mail = Step(1.0, "defer", {"email": "anna@example.com", "delay": 0})
    other = Step(30.0, "import", {"rows": 2})
    return Schedule(3, (mail, other), (Armed(0.0, Fault(fault, **options)),))


def found(application: Application, one: Schedule) -> set[str]:
    return {each.invariant for each in play(application, one).violations}


def test_work_that_is_acknowledged_before_it_is_done(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L: a handler that answers success for what it could not settle."""
    one = schedule("store.down", count=0, for_s=20.0)
    assert found(application, one) == set()
    monkeypatch.setattr("twolane.worker.handler.response", lambda _: {"batchItemFailures": []})
    assert "L" in found(application, one)


def test_leases_that_exclude_nobody(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E: whoever comes second runs it as well."""
    one = schedule("queue.duplicate-delivery")
    assert found(application, one) == set()
    monkeypatch.setattr("twolane.worker.lease.Leases.obstacle", lambda *_, **__: None)
    assert "E" in found(application, one)


def test_an_environment_that_speaks_for_another(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M: it thaws, and overwrites how the work has ended elsewhere."""
    one = schedule("environment.frozen-after-effect", parameters={"freeze_s": 700.0})
    assert found(application, one) == set()
    monkeypatch.setattr("twolane.worker.lease.LeaseFence.has_passed", lambda *_: False)
    monkeypatch.setattr("twolane.worker.lease.FencedResults._stands", lambda *_: False)
    monkeypatch.setattr("twolane.worker.redis_backend._STORE", OVERWRITES)
    assert "M" in found(application, one)


#: A store that takes whatever comes last.
OVERWRITES = """
redis.call('SET', KEYS[1], ARGV[1])
return false
"""


def test_a_queue_that_loses_count(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B: a message that goes round for ever, and one that is changed as it is moved."""
    one = schedule("message.poison-body")
    assert found(application, one) == set()
    monkeypatch.setattr("twolane_local.aws.sqs.service.QueueService._redrive", lambda *_: False)
    assert {"B", "V"} <= found(application, one)


def test_beat_that_forgets_what_it_has_sent(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S: each tick gives the slot another task id."""
    one = schedule("tick.doubled", count=0)
    assert found(application, one) == set()
    names = iter(range(1000))
    monkeypatch.setattr("twolane.beat.handler.task_id", lambda *_: f"tick-{next(names)}")
    assert "S" in found(application, one)


def test_what_is_found_is_shrunk(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twolane.worker.lease.Leases.obstacle", lambda *_, **__: None)
    one = schedule("queue.duplicate-delivery", target="tasks", count=3)
    more = Schedule(
        one.seed,
        (*one.steps, Step(60.0, "notify", {"email": "ben@example.com"})),
        (*one.faults, Armed(5.0, Fault("receive.failed"))),
    )
    small = shrink(application, play(application, more))
    assert [each.fault.name for each in small.schedule.faults] == ["queue.duplicate-delivery"]
    assert len(small.schedule.steps) <= 1
    assert any(each.invariant == "E" for each in small.violations)


def test_a_seed_repeats_a_run_exactly(application: Application) -> None:
    from twolane_local.simulator.schedule import draw

    for seed in (11, 75, 5006):
        first, again = (play(application, draw(seed)) for _ in range(2))
        assert first.digest == again.digest
        assert [fact.kind for fact in first.history] == [fact.kind for fact in again.history]
