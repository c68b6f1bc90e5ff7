from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_five_receives_are_enough(project: Project) -> None:
    assert project.found("TL102") == []


def test_four_are_not(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    (finding,) = project.found("TL102")
    assert finding.severity is Severity.WARNING
    assert finding.line == project.line("maxReceiveCount: 4")
    assert "Tasks sends a message to the dead-letter queue after 4 receives" in finding.message


def test_the_policy_may_be_text(project: Project) -> None:
    project.change(
        "        deadLetterTargetArn: !GetAtt Dead.Arn\n        maxReceiveCount: 5\n", ""
    )
    project.change(
        "RedrivePolicy:",
        'RedrivePolicy: !Sub \'{"deadLetterTargetArn": "${Dead.Arn}", "maxReceiveCount": "1"}\'',
    )
    (finding,) = project.found("TL102")
    assert "after 1 receive;" in finding.message


def test_on_a_fifo_queue_it_is_a_note(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 2")
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 360\n      FifoQueue: true")
    (finding,) = project.found("TL102")
    assert finding.severity is Severity.NOTE


def test_a_queue_that_no_function_reads_is_its_readers_business(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 1")
    project.change("Type: SQS", "Type: SQS\n          # no longer")
    project.change(
        "            BatchSize: 10", "            BatchSize: 10\n            Enabled: false"
    )
    assert project.found("TL102") == []
