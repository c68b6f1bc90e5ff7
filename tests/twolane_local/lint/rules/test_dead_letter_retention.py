from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_longer_than_the_queues_is_well(project: Project) -> None:
    assert project.found("TL108") == []


def test_as_long_is_not_long_enough(project: Project) -> None:
    project.change("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600")
    (finding,) = project.found("TL108")
    assert finding.severity is Severity.NOTE
    assert finding.line == project.line("MessageRetentionPeriod")
    assert "Dead keeps a message for 4 days" in finding.message


def test_a_fifo_queue_starts_it_anew(project: Project) -> None:
    project.change("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600")
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 360\n      FifoQueue: true")
    assert project.found("TL108") == []


def test_dead_letters_of_another_stack_are_not_judged(project: Project) -> None:
    project.change("!GetAtt Dead.Arn", "arn:aws:sqs:us-east-1:123456789012:theirs")
    assert project.found("TL108") == []
