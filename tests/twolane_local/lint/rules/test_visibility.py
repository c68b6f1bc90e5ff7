from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import check
from twolane_local.checks.lint.findings import Severity
from twolane_local.checks.lint.subject import read_subject

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_six_times_the_timeout_is_enough(project: Project) -> None:
    assert project.found("TL101") == []


def test_less_than_six_times_is_a_warning_at_its_line(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 359")
    (finding,) = project.found("TL101")
    assert finding.severity is Severity.WARNING
    assert finding.line == project.line("VisibilityTimeout: 359")
    assert "less than 6 times the 60 s of Worker" in finding.message
    assert finding.fix.startswith("set VisibilityTimeout: 360 on Tasks")


def test_less_than_the_timeout_is_an_error(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 59")
    (finding,) = project.found("TL101")
    assert finding.severity is Severity.ERROR
    assert "Lambda refuses the mapping" in finding.message


def test_the_queues_default_counts_at_the_queues_line(project: Project) -> None:
    project.change("      VisibilityTimeout: 360\n", "")
    (finding,) = project.found("TL101")
    assert finding.severity is Severity.ERROR
    assert "after 30 s" in finding.message
    assert finding.line == project.line("  Tasks:")


def test_the_batching_window_comes_on_top(project: Project) -> None:
    project.change("BatchSize: 10", "BatchSize: 10\n            MaximumBatchingWindowInSeconds: 20")
    (finding,) = project.found("TL101")
    assert "set VisibilityTimeout: 380" in finding.fix


def test_no_more_is_wanted_than_sqs_takes(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 43200")
    project.change("Timeout: 60", "Timeout: 8000")
    assert project.found("TL101") == []


def test_on_a_fifo_queue_a_short_one_is_a_note(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 60\n      FifoQueue: true")
    (finding,) = project.found("TL101")
    assert finding.severity is Severity.NOTE


@pytest.mark.parametrize("value", ["!ImportValue visibility", "!Ref Given"])
def test_what_is_not_known_breaks_nothing(project: Project, value: str) -> None:
    project.change("VisibilityTimeout: 360", f"VisibilityTimeout: {value}")
    project.change("Globals:", "Parameters:\n  Given: {Type: Number}\nGlobals:")
    assert check(read_subject(project.template, {})) == []
