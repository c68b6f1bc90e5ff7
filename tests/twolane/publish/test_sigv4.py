"""Our signer against botocore's own, byte for byte."""

from __future__ import annotations

import datetime

import pytest
import time_machine
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from twolane.publish.client import Credentials, signed_headers

NOW = datetime.datetime(2026, 3, 1, 12, 34, 56, tzinfo=datetime.UTC)


def by_botocore(
    headers: dict[str, str], body: bytes, credentials: Credentials, region: str
) -> dict[str, str]:
    request = AWSRequest("POST", f"https://{headers['host']}/", data=body, headers=dict(headers))
    boto = BotoCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token
    )
    with time_machine.travel(NOW, tick=False):
        SigV4Auth(boto, "sqs", region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def ours(
    headers: dict[str, str], body: bytes, credentials: Credentials, region: str
) -> dict[str, str]:
    return signed_headers(
        headers, body, credentials=credentials, region=region, service="sqs", now=NOW.timestamp()
    )


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEXAMPLE//token=="])
@pytest.mark.parametrize("host", ["sqs.eu-west-1.amazonaws.com", "127.0.0.1:4566"])
def test_signs_as_botocore_does(token: str | None, host: str) -> None:
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": host,
        "x-amz-target": "AmazonSQS.SendMessage",
    }
    credentials = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    assert ours(headers, b'{"a": 1}', credentials, "eu-west-1") == by_botocore(
        headers, b'{"a": 1}', credentials, "eu-west-1"
    )


def test_signs_a_path_and_another_service_as_botocore_does() -> None:
    headers = {"content-type": "application/json", "host": "scheduler.eu-west-1.amazonaws.com"}
    request = AWSRequest(
        "POST", f"https://{headers['host']}/schedules/twolane-0a", data=b"{}", headers=dict(headers)
    )
    with time_machine.travel(NOW, tick=False):
        SigV4Auth(BotoCredentials("AKID", "s"), "scheduler", "eu-west-1").add_auth(request)
    assert signed_headers(
        headers, b"{}", credentials=Credentials("AKID", "s"), region="eu-west-1",
        service="scheduler", now=NOW.timestamp(), path="/schedules/twolane-0a",
    ) == {name.lower(): value for name, value in request.headers.items()}  # fmt: skip


printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(body=st.binary(max_size=2000), secret=printable, token=st.none() | printable)
def test_signs_any_body_and_key_as_botocore_does(
    body: bytes, secret: str, token: str | None
) -> None:
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "host": "sqs.us-east-1.amazonaws.com",
        "x-amz-target": "AmazonSQS.SendMessageBatch",
    }
    credentials = Credentials("AKID", secret, token)
    assert ours(headers, body, credentials, "us-east-1") == by_botocore(
        headers, body, credentials, "us-east-1"
    )


def test_credentials_do_not_show_their_secrets() -> None:
    shown = repr(Credentials("AKID", "hush", "token-hush"))
    assert "AKID" in shown
    assert "hush" not in shown
