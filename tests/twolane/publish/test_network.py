"""Where a region's services answer, and what takes a call off the light path."""

from __future__ import annotations

import hashlib
import http.server
import json
from typing import TYPE_CHECKING

import pytest

from twolane.publish.transport import domain_of, needs_boto, region_of
from twolane.worker.aws import Sqs, queue_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...conftest import Serve  # noqa: TID252


def test_domains_are_those_of_botocore() -> None:
    from botocore.loaders import Loader

    for partition in Loader().load_data("partitions")["partitions"]:
        suffix = partition["outputs"]["dnsSuffix"]
        dual_stack = partition["outputs"]["dualStackDnsSuffix"]
        for region in partition["regions"]:
            if region.endswith("-global"):
                continue
            assert domain_of(region) == suffix
            assert region_of(f"sqs.{region}.{suffix}") == region
            assert region_of(f"sqs-fips.{region}.{suffix}") == region
            assert region_of(f"sqs.{region}.{dual_stack}") == region


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-west-1", "sqs.eu-west-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "sqs.cn-north-1.amazonaws.com.cn"),
        ("aws-us-gov", "us-gov-west-1", "sqs.us-gov-west-1.amazonaws.com"),
        ("aws-eusc", "eusc-de-east-1", "sqs.eusc-de-east-1.amazonaws.eu"),
        ("aws-iso", "us-iso-east-1", "sqs.us-iso-east-1.c2s.ic.gov"),
        ("aws-iso-b", "us-isob-east-1", "sqs.us-isob-east-1.sc2s.sgov.gov"),
    ],
)
def test_a_queues_address_is_in_its_partition(partition: str, region: str, host: str) -> None:
    arn = f"arn:{partition}:sqs:{region}:123456789012:tasks"
    assert queue_url(arn, {}) == f"https://{host}/123456789012/tasks"


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("vpce-0a1b-2c3d.sqs.us-east-1.vpce.amazonaws.com", "us-east-1"),
        ("eu-central-1.queue.amazonaws.com", "eu-central-1"),
        ("queue.amazonaws.com", "us-east-1"),
        ("sqs.eu-west-1.example.test", None),
        ("sqs.eu-west-1.amazonaws.com.example.test", None),
        ("127.0.0.1", None),
    ],
)
def test_region_of_a_host(host: str, region: str | None) -> None:
    assert region_of(host) == region


@pytest.mark.parametrize(
    ("environ", "host", "needs"),
    [
        ({}, "sqs.eu-west-1.amazonaws.com", False),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "sqs.eu-west-1.amazonaws.com", True),
        ({"AWS_USE_FIPS_ENDPOINT": "false"}, "sqs.eu-west-1.amazonaws.com", False),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "True"}, "sqs.eu-west-1.amazonaws.com", True),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "sqs.eu-west-1.amazonaws.com", True),
        ({"HTTP_PROXY": "http://proxy:3128"}, "sqs.eu-west-1.amazonaws.com", False),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "127.0.0.1", False),
        (
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".amazonaws.com"},
            "sqs.eu-west-1.amazonaws.com",
            False,
        ),
        (
            {"https_proxy": "http://proxy:3128", "no_proxy": "example.test"},
            "sqs.eu-west-1.amazonaws.com",
            True,
        ),
    ],
)
def test_what_needs_boto3(environ: dict[str, str], host: str, needs: bool) -> None:
    assert needs_boto(host, secure=True, environ=environ) is needs


@pytest.fixture
def proxy(serve: Serve) -> Iterator[tuple[str, list[str]]]:
    """A forward proxy that knows one server, an SQS that takes everything; and its requests."""
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
            digest = hashlib.md5(sent["MessageBody"].encode(), usedforsecurity=False).hexdigest()
            body = json.dumps({"MessageId": "1", "MD5OfMessageBody": digest}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serve(Proxy) as address:
        yield f"http://{address}", asked


def test_a_message_goes_through_the_environments_proxy(
    proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = proxy
    environ = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_ENDPOINT_URL": "http://sqs.example.test",
        "http_proxy": address,
    }
    for name in ("HTTP_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    arn = "arn:aws:sqs:us-east-1:123456789012:tasks"
    Sqs(environ).send(arn, "body", delay_s=0, attributes={})
    assert asked
    assert all(path.startswith("http://sqs.example.test/") for path in asked)
