from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

FIVE = "BatchSize: 10\n            ScalingConfig: {MaximumConcurrency: 5}"


def reserve(project: Project, environments: int) -> None:
    project.change(
        "Timeout: 60", f"Timeout: 60\n      ReservedConcurrentExecutions: {environments}"
    )
    project.change("BatchSize: 10", FIVE)


def test_as_many_as_are_reserved_is_well(project: Project) -> None:
    reserve(project, 5)
    assert project.found("TL109") == []


def test_more_than_are_reserved(project: Project) -> None:
    reserve(project, 4)
    (finding,) = project.found("TL109")
    assert "Worker may have 4 environments, and its mapping drives 5" in finding.message
    assert finding.line == project.line("ReservedConcurrentExecutions")


def test_two_mappings_count_together(project: Project) -> None:
    reserve(project, 9)
    text = project.template.read_text()
    event = text[text.index("        Tasks:\n") : text.index("  Beat:")]
    another = event.replace("        Tasks:", "        Others:").replace("Tasks.Arn", "Dead.Arn")
    project.template.write_text(text.replace(event, event + another))
    (finding,) = project.found("TL109")
    assert "its 2 mappings drive 10" in finding.message


def test_without_a_limit_on_either_side_there_is_nothing_to_compare(project: Project) -> None:
    project.change("BatchSize: 10", FIVE)
    assert project.found("TL109") == []
