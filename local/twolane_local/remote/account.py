"""boto3's clients for one account and region, and its errors in our words."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Account:
    """Whom the credentials at hand are for. Endpoints of the environment are honoured, so that
    ``eval "$(twolane env)"`` points this at the emulator too.
    """

    def __init__(self, *, region: str | None = None, profile: str | None = None) -> None:
        import boto3

        with asked("AWS's configuration"):
            # boto3 reads AWS_DEFAULT_REGION alone; every other SDK, and the CLI, AWS_REGION first:
            # https://docs.aws.amazon.com/sdkref/latest/guide/feature-region.html
            self._session = boto3.Session(
                region_name=region or os.environ.get("AWS_REGION"), profile_name=profile
            )
        if self._session.region_name is None:
            raise LocalError("no AWS region is known: name it with --region, or set AWS_REGION")
        self.region: str = self._session.region_name
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """One for each service."""
        if service not in self._clients:
            make: Any = self._session.client
            self._clients[service] = make(service)
        return self._clients[service]

    @cached_property
    def id(self) -> str:
        """The account's twelve digits."""
        with asked("who asks"):
            return str(self.client("sts").get_caller_identity()["Account"])


@contextmanager
def asked(what: str) -> Iterator[None]:
    """Turn boto3's errors into ours, with what to do next."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except NoCredentialsError as error:
        raise LocalError(
            f"{what}: no AWS credentials are at hand; sign in (`aws sso login`, `aws configure`) "
            "or name a profile with --profile"
        ) from error
    except ProfileNotFound as error:
        raise LocalError(f"{what}: {error}; `aws configure list-profiles` has their names") from (
            error
        )
    except ClientError as error:
        raise LocalError(f"{what}: {error}{_remedy(error)}") from error
    except BotoCoreError as error:
        raise LocalError(f"{what}: {error}") from error


def _remedy(error: Any) -> str:
    code = str(error.response.get("Error", {}).get("Code", ""))
    if "AccessDenied" in code or code in {"AuthorizationError", "UnauthorizedOperation"}:
        return " (docs/commands.md lists the permissions that each command needs)"
    if "Expired" in code:
        return " (sign in again)"
    return ""


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
