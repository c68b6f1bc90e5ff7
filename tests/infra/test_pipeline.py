"""What the pipeline's roles may do, by IAM's own rule: a denial wins, then what is allowed.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import fnmatch
from functools import cache
from typing import Any

import pytest

from twolane_local import template

from .combinations import COMBINATIONS
from .conftest import ROOT, Expanded, expanded

ROLE_FILE = ROOT / "infra" / "pipeline" / "role.yaml"
ACCOUNT = "123456789012"
#: What AWS's own policies allow, by their pages.
#: https://docs.aws.amazon.com/aws-managed-policy/latest/reference/policy-list.html
MANAGED = {
    "AWSXRayDaemonWriteAccess": {"xray:PutTelemetryRecords", "xray:PutTraceSegments"},
    "AWSLambdaENIManagementAccess": {
        "ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses",
    },
    "AmazonECSTaskExecutionRolePolicy": {
        "ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer", "logs:CreateLogStream", "logs:PutLogEvents",
    },
}  # fmt: skip


@cache
def pipeline(target: str = "twolane", stack: str = "twolane-pipeline") -> Expanded:
    parameters = {"Repository": "owner/name", "TargetStack": target}
    return Expanded(template.load(ROLE_FILE, parameters, stack_name=stack))


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(made: Expanded, role: str) -> list[dict[str, Any]]:
    properties = made.properties(role)
    documents = [each["PolicyDocument"] for each in properties.get("Policies", ())]
    written = made.loaded.resources[role]["Properties"].get("ManagedPolicyArns", ())
    named = {each["Ref"] for each in written}
    for name, policy in made.of_type("AWS::IAM::ManagedPolicy"):
        roles = made.loaded.resources[name]["Properties"].get("Roles", ())
        if name in named or {"Ref": role} in roles:
            documents.append(policy["PolicyDocument"])
    return [each for document in documents for each in document["Statement"]]


def may(made: Expanded, role: str, action: str, resource: str, *, bound: bool = True) -> bool:
    """Whether IAM lets the role; ``bound``, a condition on the boundary holds."""
    answers = set()
    for each in statements(made, role):
        if action not in listed(each["Action"]):
            continue
        if not any(fnmatch.fnmatchcase(resource, one) for one in listed(each["Resource"])):
            continue
        asked = each.get("Condition", {}).get("StringEquals", {})
        if "iam:PermissionsBoundary" in asked and not bound:
            continue
        answers.add(each["Effect"])
    return answers == {"Allow"}


def role_arn(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:role/{name}"


WRITES = (
    "iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy", "iam:PassRole", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy",
    "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy", "iam:UpdateRole",
)  # fmt: skip


@pytest.mark.parametrize("role", ["DeployRole", "ExecutionRole"])
@pytest.mark.parametrize("action", WRITES)
def test_it_cannot_change_itself(role: str, action: str) -> None:
    made = pipeline()
    for own in ("DeployRole", "ExecutionRole"):
        arn = made.names.attribute(own, "Arn")
        assert arn == role_arn(f"twolane-pipeline-{own}")
        passes = role == "DeployRole" and own == "ExecutionRole" and action == "iam:PassRole"
        assert may(made, role, action, arn) == passes, f"{role} may {action} on {own}"


def test_its_stack_its_policies_and_its_artifacts_are_not_for_it_either() -> None:
    made = pipeline()
    stack = made.loaded.parameters["AWS::StackId"]
    bucket = made.names.attribute("Artifacts", "Arn")
    assert bucket.startswith("arn:aws:s3:::twolane-pipeline-")
    actions = {
        action
        for each in statements(made, "ExecutionRole")
        if each["Effect"] == "Allow"
        for action in listed(each["Action"])
    }
    assert not {each for each in actions if "Policy" in each and each.startswith("iam:Create")}
    assert not {"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"} & actions
    reads = ("Get", "List", "Describe", "Create", "Tag", "Untag")
    for action in sorted(actions):
        service, _, verb = action.partition(":")
        if verb.startswith(reads) and verb != "CreateChangeSet":
            continue
        assert service != "cloudformation" or verb == "DeleteChangeSet" or not may(
            made, "ExecutionRole", action, stack
        )  # fmt: skip
        assert service != "s3" or not may(made, "ExecutionRole", action, bucket), action
    assert may(made, "ExecutionRole", "s3:GetObject", f"{bucket}/artifact")


def test_it_still_does_what_it_is_for() -> None:
    made = pipeline()
    ours = role_arn("twolane-ApiRole-1A2B3C")
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"):
        assert may(made, "ExecutionRole", action, ours)
        assert not may(made, "ExecutionRole", action, ours, bound=False)
    assert may(made, "ExecutionRole", "iam:DeleteRole", ours)
    nested = f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/twolane-Alarms-1A2B3C/1"
    assert may(made, "ExecutionRole", "cloudformation:CreateStack", nested)
    tick = f"arn:aws:scheduler:us-east-1:{ACCOUNT}:schedule/twolane-BeatSchedules-1A2B3C/tick"
    assert may(made, "ExecutionRole", "scheduler:CreateSchedule", tick)


def test_what_says_whom_a_role_trusts_is_said_once() -> None:
    # IAM has no condition by which only roles within the boundary could be meant.
    # https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html
    made = pipeline()
    assert not may(
        made, "ExecutionRole", "iam:UpdateAssumeRolePolicy", role_arn("twolane-ApiRole-1A2B3C")
    )


@pytest.mark.parametrize("parameters", COMBINATIONS.values(), ids=COMBINATIONS)
def test_the_boundary_holds_whatever_a_role_of_the_stack_may(parameters: dict[str, str]) -> None:
    bounds = pipeline("local").properties("Boundary")["PolicyDocument"]["Statement"]

    def within(action: str, resource: str | None) -> bool:
        return any(
            action in listed(each["Action"])
            and (
                resource is None
                or any(fnmatch.fnmatchcase(resource, one) for one in listed(each["Resource"]))
            )
            for each in bounds
        )

    made = expanded(**parameters)
    for name, role in made.of_type("AWS::IAM::Role"):
        for one in made.allowed(name):
            # The emulator calls a function by its logical id, CloudFormation by the stack's, too.
            resource = one.resource.replace(":function:", ":function:local-")
            resource = resource + "-1" if ":function:" in resource else resource
            resource = resource.replace("LongDelaysRole", "LongDelaysRole-1")
            assert within(one.action, resource), f"{name}: {one.action} on {resource}"
        for arn in role.get("ManagedPolicyArns", ()):
            for action in MANAGED[arn.rpartition("/")[2]]:
                assert within(action, None), f"{name}: {action}"


@pytest.mark.parametrize("name", ["everything", "long-lane-and-redis-in-a-network", "schedules"])
def test_a_boundary_is_every_roles(name: str) -> None:
    bound = f"arn:aws:iam::{ACCOUNT}:policy/twolane-boundary"
    made = expanded(**{**COMBINATIONS[name], "PermissionsBoundary": bound})
    roles = dict(made.of_type("AWS::IAM::Role"))
    assert len(roles) > 5
    assert {role.get("PermissionsBoundary") for role in roles.values()} == {bound}
