"""What a CloudFormation stack consists of, nested stacks included."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError
from twolane_local.inspect.stack.account import asked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.inspect.stack.account import Account

_STACK = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, slots=True)
class Resource:
    """``physical_id`` is what the service calls it: a queue's URL, a function's name."""

    logical_id: str
    kind: str
    physical_id: str


@dataclass(frozen=True, slots=True)
class Resources:
    """All resources of a stack that are there by now."""

    stack: str
    all: tuple[Resource, ...]

    def of(self, kind: str) -> tuple[Resource, ...]:
        """Those of a type such as ``AWS::SQS::Queue``."""
        return tuple(each for each in self.all if each.kind == kind)


def read(account: Account, stack: str) -> Resources:
    """Ask CloudFormation. Raises ``LocalError`` for a stack that is not there.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html
    """
    found = tuple(_within(account, stack))
    if not found:
        raise LocalError(f"stack {stack} has no resources in {account.region}")
    return Resources(stack, found)


def _within(account: Account, stack: str) -> Iterator[Resource]:
    client = account.client("cloudformation")
    with asked(f"stack {stack} in {account.region}"):
        pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
        listed = [each for page in pages for each in page["StackResourceSummaries"]]
    for each in listed:
        physical = each.get("PhysicalResourceId")
        if not physical or each.get("ResourceStatus") == "DELETE_COMPLETE":
            continue
        if each["ResourceType"] == _STACK:
            yield from _within(account, physical)
        else:
            yield Resource(each["LogicalResourceId"], each["ResourceType"], physical)
