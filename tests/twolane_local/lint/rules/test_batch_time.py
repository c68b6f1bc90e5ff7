from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity

from ..conftest import event, shop, task  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_ten_of_five_seconds_fit_into_sixty(project: Project) -> None:
    assert project.found("TL104", applications=shop()) == []


def test_ten_of_seven_do_not(project: Project) -> None:
    (finding,) = project.found("TL104", applications=shop(task(hard_limit_s=7.0)))
    assert "10 messages of shop.tasks.sweep, each limited to 7 s, takes 70 s" in finding.message
    assert finding.fix == "set BatchSize: 8, or raise Timeout to 70"
    assert finding.line == project.line("BatchSize: 10")


def test_a_soft_limit_will_do_and_other_queues_do_not_count(project: Project) -> None:
    soft = task(hard_limit_s=None, soft_limit_s=100.0)
    (finding,) = project.found("TL104", applications=shop(soft))
    assert finding.fix == "set BatchSize: 1"
    other = task(hard_limit_s=500.0, queue="long", queue_url="https://x/1/long")
    assert project.found("TL104", applications=shop(other)) == []


def test_without_a_limit_the_journal_may_know(project: Project) -> None:
    slow = event(
        "task.succeeded", queue="local-Tasks", taskName="shop.tasks.report", durationMs=100_000.0
    )
    elsewhere = event("task.succeeded", queue="other", taskName="x", durationMs=900_000.0)
    (finding,) = project.found("TL104", journal=[slow, elsewhere])
    assert "shop.tasks.report, measured at 100 s" in finding.message
    assert finding.fix == "set BatchSize: 1"


def test_a_task_without_a_limit_may_take_the_time_of_its_batch(project: Project) -> None:
    endless = task(name="shop.tasks.endless", hard_limit_s=None)
    (finding,) = project.found("TL104", applications=shop(task(), endless))
    assert finding.severity is Severity.NOTE
    assert "shop.tasks.endless has no time limit: one may take all of" in finding.message
    assert "the other 9 of its batch go back and lose a receive each" in finding.message
    assert finding.fix == "set task_time_limit to no more than 6, or BatchSize: 1"
    project.change("BatchSize: 10", "BatchSize: 1")
    assert project.found("TL104", applications=shop(task(), endless)) == []


def test_nothing_is_said_of_what_nobody_knows(project: Project) -> None:
    assert project.found("TL104") == []
