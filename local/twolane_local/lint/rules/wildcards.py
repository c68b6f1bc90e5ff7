"""No permission for everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.iam_actions import takes_no_resource
from twolane_local.lint.subject import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.lint.subject import Resource, Subject

_KINDS = ("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy")
_EVERYTHING = ("AdministratorAccess", "PowerUserAccess")


def check(subject: Subject) -> Iterator[Found]:
    for resource in subject.of_kind(*_KINDS):
        for path, statement in _statements(resource):
            yield from _of_statement(resource, path, statement)
        for index, arn in enumerate(listed(resource.properties.get("ManagedPolicyArns"))):
            if str(arn).endswith(_EVERYTHING):
                yield Found(
                    resource.id,
                    f"{resource.id} takes {str(arn).rpartition('/')[2]}, which may do everything",
                    "name the actions that the code calls, and their resources",
                    ("ManagedPolicyArns", index),
                )


def _statements(resource: Resource) -> Iterator[tuple[tuple[str | int, ...], Mapping[str, Any]]]:
    documents: list[tuple[tuple[str | int, ...], Any]] = [
        (("PolicyDocument",), resource.properties.get("PolicyDocument"))
    ]
    for index, policy in enumerate(listed(resource.properties.get("Policies"))):
        if isinstance(policy, dict):
            documents.append((("Policies", index, "PolicyDocument"), policy.get("PolicyDocument")))
    for path, document in documents:
        if isinstance(document, dict):
            for index, statement in enumerate(listed(document.get("Statement"))):
                if isinstance(statement, dict) and statement.get("Effect") == "Allow":
                    yield (*path, "Statement", index), statement


def _of_statement(
    resource: Resource, path: tuple[str | int, ...], statement: Mapping[str, Any]
) -> Iterator[Found]:
    actions = [str(action) for action in listed(statement.get("Action"))]
    wide = [action for action in actions if action == "*" or action.endswith(":*")]
    if wide or "NotAction" in statement:
        what = ", ".join(wide) or "every action but a few"
        yield Found(
            resource.id,
            f"{resource.id} allows {what}",
            "name the actions that the code calls",
            (*path, "Action" if wide else "NotAction"),
        )
    resources = [str(item) for item in listed(statement.get("Resource"))]
    bound = [action for action in actions if not takes_no_resource(action)]
    if ("*" in resources or "NotResource" in statement) and bound:
        yield Found(
            resource.id,
            f"{resource.id} allows {bound[0]} on every resource of the account",
            "name the resource, by !GetAtt or !Sub",
            (*path, "Resource" if "*" in resources else "NotResource"),
        )


RULE = Rule(
    "TL107",
    "wildcard-permission",
    Severity.WARNING,
    "No policy of a role allows `*`, neither as action nor as resource, where IAM can be exact.",
    "https://docs.aws.amazon.com/IAM/latest/UserGuide/best-practices.html#grant-least-privilege",
    check,
)
