from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import check
from twolane_local.checks.lint.findings import Severity
from twolane_local.checks.lint.subject import read_subject

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

PARAMETERS = """\
Parameters:
  Issuer: {Type: String, Default: ""}
  Audience: {Type: CommaDelimitedList, Default: ""}
Rules:
  TokensAreForSomeone:
    RuleCondition: !Not [!Equals [!Ref Issuer, ""]]
    Assertions:
      - Assert: !Equals [!Ref Issuer, one]
      - Assert: ASSERT
        AssertDescription: an issuer needs an audience
Globals:
"""


def asserting(project: Project, assertion: str) -> None:
    project.change("Globals:\n", PARAMETERS.replace("ASSERT", assertion))


@pytest.mark.parametrize(
    ("assertion", "function"),
    [
        ('!Not [!Equals [!Select [0, !Ref Audience], ""]]', "Fn::Select"),
        ('!Not [!Equals [!Sub "${Issuer}", ""]]', "Fn::Sub"),
        ('!Not [!Equals [{"Fn::Join": ["", !Ref Audience]}, ""]]', "Fn::Join"),
    ],
)
def test_a_rule_takes_no_other_functions(project: Project, assertion: str, function: str) -> None:
    asserting(project, assertion)
    (finding,) = project.found("TL230")
    assert finding.severity is Severity.ERROR
    assert f"the rule TokensAreForSomeone uses {function}" in finding.message
    assert finding.line == project.line(assertion)


def test_a_rule_takes_its_own(project: Project) -> None:
    asserting(
        project,
        '!And [!Not [!EachMemberIn [!ValueOfAll ["AWS::EC2::VPC::Id", "Tags.Name"], [a]]], '
        "!Or [!Contains [[a, b], !Ref Issuer], !EachMemberEquals [!RefAll String, x]]]",
    )
    assert project.found("TL230") == []


def test_a_condition_of_a_rule_is_looked_at_too(project: Project) -> None:
    asserting(project, "!Equals [a, !Ref Issuer]")
    project.change('!Not [!Equals [!Ref Issuer, ""]]', "!Equals [!FindInMap [M, a, b], x]")
    (finding,) = project.found("TL230")
    assert "Fn::FindInMap" in finding.message


def test_a_deletion_policy_is_plain_text(project: Project) -> None:
    project.change(
        "  Tasks:\n    Type", "  Tasks:\n    DeletionPolicy: !If [C, Retain, Delete]\n    Type"
    )
    project.change("Globals:\n", "Conditions:\n  C: !Equals [a, a]\nGlobals:\n")
    (finding,) = project.found("TL230")
    assert "Tasks's DeletionPolicy is a function" in finding.message


def test_with_language_extensions_it_may_be_a_function(project: Project) -> None:
    project.change("  Tasks:\n    Type", "  Tasks:\n    DeletionPolicy: !Ref Keep\n    Type")
    project.change("Globals:\n", "Parameters:\n  Keep: {Type: String, Default: Retain}\nGlobals:\n")
    assert len(project.found("TL230")) == 1
    text = project.template.read_text()
    project.template.write_text(
        text.replace(
            "Transform: AWS::Serverless-2016-10-31",
            "Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]",
        )
    )
    # Only the template as written: SAM leaves no transform in what it expands.
    found = check(read_subject(project.template, {}))
    assert "TL230" not in {one.rule.id for one in found}
