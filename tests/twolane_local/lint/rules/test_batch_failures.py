from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.findings import Severity

from ..conftest import shop  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

REPORT = "            FunctionResponseTypes: [ReportBatchItemFailures]\n"


def test_a_mapping_that_reports_is_well(project: Project) -> None:
    assert project.found("TL103", applications=shop()) == []


def test_a_batch_without_it_is_a_warning_at_its_event(project: Project) -> None:
    project.change(REPORT, "")
    (finding,) = project.found("TL103")
    assert finding.severity is Severity.WARNING
    assert finding.line == project.line("        Tasks:")
    assert "brings the whole batch of Worker back" in finding.message


def test_one_message_a_batch_needs_no_report(project: Project) -> None:
    project.change(REPORT, "")
    project.change("BatchSize: 10", "BatchSize: 1")
    assert project.found("TL103") == []


def test_before_a_worker_handler_it_loses_messages(project: Project) -> None:
    project.change(REPORT, "")
    project.change("BatchSize: 10", "BatchSize: 1")
    (finding,) = project.found("TL103", applications=shop())
    assert finding.severity is Severity.ERROR
    assert "deletes them all" in finding.message
