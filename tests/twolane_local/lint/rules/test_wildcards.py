from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

ACTION = "Action: s3:GetObject"
RESOURCE = "Resource: arn:aws:s3:::receipts/*"


def test_a_star_inside_an_arn_is_well(project: Project) -> None:
    assert project.found("TL107") == []


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ('Action: "*"', "FRole allows *"),
        ('Action: ["s3:*", s3:GetObject]', "FRole allows s3:*"),
        ("NotAction: iam:PassRole", "FRole allows all actions except a few"),
    ],
)
def test_every_action(project: Project, action: str, says: str) -> None:
    project.change(ACTION, action)
    (finding,) = project.found("TL107")
    assert finding.message == says.replace("FRole", "WorkerRole")
    assert finding.line == project.line("Policies:"), "SAM made the role; the policy is here"


def test_every_resource(project: Project) -> None:
    project.change(RESOURCE, 'Resource: "*"')
    (finding,) = project.found("TL107")
    assert "allows s3:GetObject on every resource" in finding.message


def test_what_iam_cannot_bind_may_have_a_star(project: Project) -> None:
    project.change(RESOURCE, 'Resource: "*"')
    project.change(
        ACTION, "Action: [xray:PutTraceSegments, ec2:DescribeSubnets, cloudwatch:PutMetricData]"
    )
    assert project.found("TL107") == []


def test_a_denial_may_be_wide(project: Project) -> None:
    project.change(RESOURCE, 'Resource: "*"')
    project.change("Effect: Allow", "Effect: Deny")
    assert project.found("TL107") == []


def test_an_administrator(project: Project) -> None:
    project.change(
        "      Policies:\n",
        "      Policies:\n        - arn:aws:iam::aws:policy/AdministratorAccess\n",
    )
    (finding,) = project.found("TL107")
    assert "takes AdministratorAccess" in finding.message


def test_a_role_in_the_text_has_its_own_lines(project: Project) -> None:
    project.change(
        "  Dead:\n",
        "  Own:\n    Type: AWS::IAM::ManagedPolicy\n    Properties:\n      PolicyDocument:\n"
        "        Statement:\n          - {Effect: Allow, Action: sqs:SendMessage,\n"
        '             Resource: "*"}\n  Dead:\n',
    )
    (finding,) = project.found("TL107")
    assert finding.line == project.line('Resource: "*"}')
