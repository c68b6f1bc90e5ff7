from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint.findings import Severity

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

IDENTITY = """\
  Sender:
    Type: AWS::SES::EmailIdentity
    Properties: {EmailIdentity: !Ref Address}
  Dead:
"""
PARAMETERS = """\
Parameters:
  Address: {Type: String, Default: me@example.com}
Conditions:
  Makes: !Equals [!Ref Address, none]
Globals:
"""


@pytest.mark.parametrize(
    "value", ["worker", "!Sub 'worker-${AWS::Region}'", "!Join ['-', [a, !Ref AWS::AccountId]]"]
)
def test_a_fixed_name_is_every_stacks(project: Project, value: str) -> None:
    project.change("Timeout: 60", f"Timeout: 60\n      FunctionName: {value}")
    (finding,) = project.found("TL232")
    assert finding.severity is Severity.NOTE
    assert "Worker's FunctionName is the same in every stack" in finding.message
    assert "a second stack of this template cannot be created" in finding.message
    assert finding.line == project.line("FunctionName")


@pytest.mark.parametrize(
    "value",
    ["!Sub '${AWS::StackName}-worker'", "!Sub 'worker-${Stage}'", "!Sub 'w-${Dead.QueueName}'",
     "!Select [2, !Split ['/', !Ref AWS::StackId]]"],
)  # fmt: skip
def test_a_name_that_may_be_another_is_well(project: Project, value: str) -> None:
    project.change("Globals:\n", "Parameters:\n  Stage: {Type: String, Default: x}\nGlobals:\n")
    project.change("Timeout: 60", f"Timeout: 60\n      FunctionName: {value}")
    assert project.found("TL232") == []


def test_sam_names_a_tick_after_its_event(project: Project) -> None:
    project.change("            Name: !Sub ${AWS::StackName}-tick\n", "")
    (finding,) = project.found("TL232")
    assert finding.resource == "BeatTick"
    assert "a GroupName that is the stack's own" in finding.fix


def test_a_tick_in_a_group_of_the_stack_is_alone_there(project: Project) -> None:
    project.change("Name: !Sub ${AWS::StackName}-tick", "GroupName: !Ref Ticks")
    project.change("  Dead:\n", "  Ticks: {Type: AWS::Scheduler::ScheduleGroup}\n  Dead:\n")
    assert project.found("TL232") == []


def test_an_identity_is_the_accounts_whoever_named_it(project: Project) -> None:
    project.change("Globals:\n", PARAMETERS)
    project.change("  Dead:\n", IDENTITY)
    (finding,) = project.found("TL232")
    assert "make it by a condition" in finding.fix
    project.change("    Properties: {Email", "    Condition: Makes\n    Properties: {Email")
    assert project.found("TL232") == []
