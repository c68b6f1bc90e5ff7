from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

POLICY = """\
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt Dead.Arn
        maxReceiveCount: 5
"""


def test_a_queue_with_one_is_well_and_the_dead_letters_need_none(project: Project) -> None:
    assert project.found("TL105") == []


def test_a_queue_without_one(project: Project) -> None:
    project.change(POLICY, "")
    (finding,) = project.found("TL105")
    assert finding.resource == "Tasks"
    assert finding.line == project.line("  Tasks:")
    assert "maxReceiveCount: 5" in finding.fix


def test_a_queue_of_another_stack_is_not_judged(project: Project) -> None:
    project.change(POLICY, "")
    project.change("Queue: !GetAtt Tasks.Arn", "Queue: arn:aws:sqs:us-east-1:123456789012:theirs")
    assert project.found("TL105") == []
