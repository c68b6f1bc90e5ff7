from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint.findings import Severity

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def name(project: Project, value: str) -> None:
    project.change("Timeout: 60", f"Timeout: 60\n      FunctionName: {value}")


@pytest.mark.parametrize(
    "value",
    ["!Sub ${AWS::StackName}-worker", "!Sub '${AWS::StackName}-${AWS::Region}-w'", "worker"],
)
def test_what_leaves_forty_characters_is_well(project: Project, value: str) -> None:
    name(project, value)
    assert project.found("TL231") == []


def test_less_is_a_note_with_the_longest_name_that_fits(project: Project) -> None:
    name(project, f"!Sub ${{AWS::StackName}}-{'x' * 24}")
    (finding,) = project.found("TL231")
    assert finding.severity is Severity.NOTE
    assert "Worker's FunctionName may have 64 characters; 25 beside the stack's name leave 39" in (
        finding.message
    )
    assert finding.line == project.line("FunctionName")


def test_a_name_with_no_room_is_an_error(project: Project) -> None:
    name(project, f"!Join ['-', [!Ref AWS::StackName, {'x' * 63}]]")
    (finding,) = project.found("TL231")
    assert finding.severity is Severity.ERROR
    assert "no stack can be created" in finding.message


def test_a_stack_whose_name_is_known_must_fit(project: Project) -> None:
    project.change("      VisibilityTimeout: 360", "      VisibilityTimeout: 360\n"
                   "      QueueName: !Sub ${AWS::StackName}-${AWS::StackName}-q")  # fmt: skip
    (finding,) = project.found("TL231")
    assert "3 beside the stack's name leave 38" in finding.message
    (project.folder / "samconfig.toml").write_text(
        f'[default.deploy.parameters]\nstack_name = "{"s" * 39}"\n'
    )
    (finding,) = project.found("TL231")
    assert finding.severity is Severity.ERROR
    assert f"leave 38; samconfig.toml has '{'s' * 39}', 39" in finding.message


def test_what_another_stack_knows_has_no_length(project: Project) -> None:
    name(project, "!Join ['-', [!Ref AWS::StackName, !ImportValue there]]")
    assert project.found("TL231") == []


def test_a_bucket_has_one_character_less_than_a_function(project: Project) -> None:
    bucket = f"    Properties: {{BucketName: !Sub '${{AWS::StackName}}-{'b' * 24}'}}\n"
    project.change("  Dead:\n", f"  Kept:\n    Type: AWS::S3::Bucket\n{bucket}  Dead:\n")
    (finding,) = project.found("TL231")
    assert "may have 63 characters; 25 beside the stack's name leave 38" in finding.message
