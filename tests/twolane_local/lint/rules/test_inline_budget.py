from __future__ import annotations

from typing import TYPE_CHECKING

from ..conftest import event  # noqa: TID252

if TYPE_CHECKING:
    from twolane_local.journal import Event

    from ..conftest import Project  # noqa: TID252


def ran(milliseconds: float, *, kind: str = "inline.succeeded", **more: str) -> Event:
    return event(kind, function="Worker", taskName="shop.mail", durationMs=milliseconds, **more)


def test_quick_work_is_well(project: Project) -> None:
    assert project.found("TL301", journal=[ran(5.0), ran(1999.0)]) == []


def test_slow_work(project: Project) -> None:
    (finding,) = project.found("TL301", journal=[ran(5.0), ran(2500.0)])
    assert finding.message == (
        "shop.mail took longer than its inline budget of 2 s in 1 of 2 runs, 2.5 s at most"
    )
    assert finding.line == project.line("Timeout: 60")
    assert "make shop.mail a Celery task" in finding.fix


def test_the_budget_is_the_projects_own(project: Project) -> None:
    assert len(project.found("TL301", journal=[ran(600.0)], inline_budget_s=0.5)) == 1


def test_the_budget_is_never_more_than_the_function_has(project: Project) -> None:
    project.change("Timeout: 60", "Timeout: 2")
    (finding,) = project.found("TL301", journal=[ran(1600.0)])
    assert "budget of 1.5 s" in finding.message


def test_one_slow_run_of_many_is_no_habit(project: Project) -> None:
    assert project.found("TL301", journal=[ran(5.0)] * 40 + [ran(3000.0)]) == []


def test_what_did_not_fit_is_told_at_once(project: Project) -> None:
    deferred = ran(0.0, kind="inline.deferred")
    killed = ran(0.0, kind="inline.lost", reason="timeout")
    (finding,) = project.found("TL301", journal=[ran(5.0), deferred, killed])
    assert "did not fit into its invocation's time in 2 of 3 runs" in finding.message


def test_lost_behind_a_failure_is_not_slow(project: Project) -> None:
    assert (
        project.found("TL301", journal=[ran(0.0, kind="inline.lost", reason="not started")]) == []
    )
