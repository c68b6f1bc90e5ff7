from __future__ import annotations

from typing import TYPE_CHECKING

from ..conftest import shop, task  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_a_limit_below_the_timeout_is_well(project: Project) -> None:
    assert project.found("TL203", applications=shop(task(hard_limit_s=59.0))) == []


def test_a_limit_that_is_never_reached(project: Project) -> None:
    long = task(hard_limit_s=60.0)
    (finding,) = project.found("TL203", applications=shop(long))
    assert "may run 60 s, but Worker is killed after 60 s" in finding.message
    assert (finding.path, finding.line) == (long.file, 15)
    assert finding.fix == "set time_limit below 60, or raise Timeout"


def test_a_limit_beyond_every_function(project: Project) -> None:
    (finding,) = project.found("TL203", applications=shop(task(hard_limit_s=1000.0)))
    assert "stock `celery worker`" in finding.fix


def test_no_limit_or_another_queue_is_not_this_rules(project: Project) -> None:
    soft = task(hard_limit_s=None, soft_limit_s=600.0)
    other = task(hard_limit_s=600.0, queue_url="https://sqs/1/long")
    assert project.found("TL203", applications=shop(soft, other)) == []
