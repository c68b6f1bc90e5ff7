from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote.resources import read_resources

if TYPE_CHECKING:
    from twolane_local.remote.account import Account


def test_what_cloudformation_lists(account: Account, stack: str) -> None:
    found = read_resources(account, stack)
    assert {each.logical_id for each in found.of("AWS::Lambda::Function")} == {"Api", "Worker"}
    urls = [each.physical_id for each in found.of("AWS::SQS::Queue")]
    assert sorted(url.rpartition("/")[2] for url in urls) == ["shop-dead", "shop-tasks"]


def test_a_stack_that_is_not_there_is_said(account: Account) -> None:
    with pytest.raises(LocalError, match=r"stack nowhere in us-east-1: .*does not exist"):
        read_resources(account, "nowhere")


def test_nested_stacks_are_looked_into() -> None:
    """By literal answers: moto wants a nested stack's template from a bucket."""
    pages: dict[str, list[dict[str, Any]]] = {
        "shop": [
            {"LogicalResourceId": "Inner", "ResourceType": "AWS::CloudFormation::Stack",
             "PhysicalResourceId": "arn:inner", "ResourceStatus": "CREATE_COMPLETE"},
            {"LogicalResourceId": "Gone", "ResourceType": "AWS::SQS::Queue",
             "PhysicalResourceId": "gone", "ResourceStatus": "DELETE_COMPLETE"},
            {"LogicalResourceId": "NotYet", "ResourceType": "AWS::SQS::Queue",
             "ResourceStatus": "CREATE_IN_PROGRESS"},
        ],
        "arn:inner": [
            {"LogicalResourceId": "Q", "ResourceType": "AWS::SQS::Queue",
             "PhysicalResourceId": "https://sqs/1/q", "ResourceStatus": "CREATE_COMPLETE"},
        ],
    }  # fmt: skip

    class Client:
        def get_paginator(self, name: str) -> Any:
            assert name == "list_stack_resources"
            return self

        def paginate(self, StackName: str) -> Any:
            return [{"StackResourceSummaries": [each]} for each in pages[StackName]]

    class Fake:
        region = "us-east-1"

        def client(self, service: str) -> Any:
            return Client()

    fake: Any = Fake()
    found = read_resources(fake, "shop")
    assert json.dumps([each.physical_id for each in found.all]) == '["https://sqs/1/q"]'
