from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from twolane_local.errors import LocalError
from twolane_local.remote.account import Account, aws_errors

if TYPE_CHECKING:
    from .conftest import Sqs


def test_who_asks_and_where(account: Account) -> None:
    assert (account.id, account.region) == ("123456789012", "us-east-1")
    assert account.client("sqs") is account.client("sqs")


def test_without_a_region_it_says_what_to_set(sqs: Sqs) -> None:
    del os.environ["AWS_REGION"], os.environ["AWS_DEFAULT_REGION"]
    with pytest.raises(LocalError, match="--region"):
        Account()
    assert Account(region="eu-west-1").region == "eu-west-1"


def test_a_profile_that_is_not_there_is_said(sqs: Sqs) -> None:
    with pytest.raises(LocalError, match=r"none-such.*list-profiles"):
        Account(profile="none-such")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "sign in"),
        (ClientError({"Error": {"Code": "AccessDeniedException"}}, "Get"), "permissions"),
        (ClientError({"Error": {"Code": "ExpiredToken"}}, "Get"), "sign in again"),
        (EndpointConnectionError(endpoint_url="http://x"), "Could not connect"),
    ],
)
def test_errors_say_what_to_do(error: Exception, words: str) -> None:
    with pytest.raises(LocalError, match=words) as caught, aws_errors("the queues"):
        raise error
    assert str(caught.value).startswith("the queues: ")
    assert caught.value.__cause__ is error
