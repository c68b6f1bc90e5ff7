"""From values of the expanded template to lines of the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint.findings import TemplateLines

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Project


@pytest.mark.parametrize(
    ("resource", "path", "line"),
    [
        ("Tasks", ("VisibilityTimeout",), "VisibilityTimeout: 360"),
        ("Tasks", ("RedrivePolicy", "maxReceiveCount"), "maxReceiveCount"),
        ("Tasks", ("RedrivePolicy", "nothing"), "RedrivePolicy:"),
        ("Tasks", ("DelaySeconds",), "  Tasks:"),
        ("Worker", ("CodeUri",), "CodeUri: code/"),  # in Globals
        ("WorkerTasks", ("BatchSize",), "BatchSize: 10"),
        ("WorkerTasks", ("EventSourceArn",), "Queue: !GetAtt Tasks.Arn"),
        ("WorkerTasks", ("ScalingConfig",), "        Tasks:"),
        ("WorkerTasks", (), "        Tasks:"),
        ("BeatTick", ("ScheduleExpression",), "ScheduleExpression"),
        ("WorkerRole", ("Policies", 0), "Policies:"),
        ("BeatRole", ("Policies", 0), "  Beat:"),
        ("WorkerTasksPermission", (), "  Worker:"),
    ],
)
def test_lines(project: Project, resource: str, path: tuple[str | int, ...], line: str) -> None:
    assert TemplateLines(project.template).of(resource, path) == project.line(line)


def test_what_is_nowhere_is_at_the_top(project: Project) -> None:
    assert TemplateLines(project.template).of("Unheard", ("Of",)) == 1


def test_json_has_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "template.json"
    path.write_text('{\n"Resources": {\n"Q": {"Type": "AWS::SQS::Queue",\n"Properties": {\n'
                    '"DelaySeconds": 1}}}}')  # fmt: skip
    assert TemplateLines(path).of("Q", ("DelaySeconds",)) == 5
