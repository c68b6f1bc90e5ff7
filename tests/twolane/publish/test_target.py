from __future__ import annotations

from typing import Any

import pytest

from twolane.publish.client import Credentials
from twolane.publish.transport import Broker, Endpoint, Target, resolve

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/tasks"
ENV = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-2"}


def options(url: str = URL, **more: Any) -> dict[str, Any]:
    return {"predefined_queues": {"tasks": {"url": url}}, **more}


def target(broker: Broker, environ: dict[str, str] = ENV, queue: str = "tasks") -> Target:
    found = resolve(queue, broker, environ)
    assert found is not None
    return found


def test_a_lambda_function_needs_no_more_than_the_queue_and_its_environment() -> None:
    environ = {**ENV, "AWS_SESSION_TOKEN": "token"}
    assert target(Broker(options()), environ) == Target(
        URL,
        Endpoint(True, "sqs.eu-west-1.amazonaws.com", 443),
        "eu-west-1",
        Credentials("AKID", "secret", "token"),
    )


@pytest.mark.parametrize(
    ("url", "more", "region"),
    [
        (URL, {"region": "ap-south-1"}, "eu-west-1"),
        ("https://eu-central-1.queue.amazonaws.com/1/tasks", {}, "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/tasks", {}, "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/tasks", {}, "us-gov-west-1"),
        ("http://127.0.0.1:4566/1/tasks", {"region": "ap-south-1"}, "ap-south-1"),
        ("http://127.0.0.1:4566/1/tasks", {}, "us-east-2"),
        ("https://queue.amazonaws.com/1/tasks", {}, "us-east-1"),
        ("https://sqs.eu-west-1.example.test/1/tasks", {}, "us-east-2"),
    ],
)
def test_the_region_that_signs_is_that_of_the_queue(
    url: str, more: dict[str, Any], region: str
) -> None:
    assert target(Broker(options(url, **more))).region == region


@pytest.mark.parametrize(
    ("environ", "endpoint"),
    [
        ({}, Endpoint(True, "sqs.eu-west-1.amazonaws.com", 443)),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:4566"}, Endpoint(False, "127.0.0.1", 4566)),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SQS": "https://vpce.test"},
            Endpoint(True, "vpce.test", 443),
        ),
        (
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
            },
            Endpoint(True, "sqs.eu-west-1.amazonaws.com", 443),
        ),
    ],
)
def test_the_endpoint_of_the_environment_comes_before_the_queues_host(
    environ: dict[str, str], endpoint: Endpoint
) -> None:
    assert target(Broker(options()), {**ENV, **environ}).endpoint == endpoint


def test_a_host_in_the_broker_url_comes_before_the_environment() -> None:
    broker = Broker(options(), hostname="localhost", port=9324)
    environ = {**ENV, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert target(broker, environ).endpoint == Endpoint(False, "localhost", 9324)


def test_keys_in_the_broker_url_or_beside_the_queue_come_before_the_environment() -> None:
    by_url = Broker(options(), userid="URLKEY", password="pw")
    assert target(by_url).credentials == Credentials("URLKEY", "pw")
    beside = {"url": URL, "access_key_id": "QKEY", "secret_access_key": "qs"}
    by_queue = Broker({"predefined_queues": {"tasks": beside}}, userid="URLKEY", password="pw")
    assert target(by_queue).credentials == Credentials("QKEY", "qs")


@pytest.mark.parametrize(
    ("broker", "environ", "queue"),
    [
        pytest.param(Broker({}), ENV, "tasks", id="no predefined queues"),
        pytest.param(Broker(options()), ENV, "other", id="a queue that is not among them"),
        pytest.param(Broker(options()), {}, "tasks", id="no credentials in the environment"),
        pytest.param(
            Broker({"predefined_queues": {"a.b": {"url": URL}}}), ENV, "a.b", id="a dotted name"
        ),
        pytest.param(Broker(options(sts_role_arn="arn:…")), ENV, "tasks", id="an assumed role"),
        pytest.param(Broker(options(supports_fanout=True)), ENV, "tasks", id="fan-out"),
        pytest.param(Broker(options(URL + ".fifo")), ENV, "tasks", id="a FIFO queue"),
    ],
)
def test_the_rest_is_for_the_stock_transport(
    broker: Broker, environ: dict[str, str], queue: str
) -> None:
    assert resolve(queue, broker, environ) is None


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "sqs.eu-west-1.amazonaws.com"),
        ("https://example.test:8443", "example.test:8443"),
        ("http://example.test:80", "example.test"),
        ("http://[::1]:4566", "[::1]:4566"),
    ],
)
def test_the_host_header_leaves_the_default_port_out(url: str, host: str) -> None:
    assert Endpoint.of(url).host == host


def test_an_endpoint_that_is_no_http_url_says_so() -> None:
    with pytest.raises(ValueError, match=r"'localhost:4566' is not an http or https URL"):
        Endpoint.of("localhost:4566")


@pytest.mark.parametrize(
    "switched",
    [
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"HTTPS_PROXY": "http://proxy.test:3128"},
    ],
)
def test_a_network_that_is_not_plain_is_for_boto3(switched: dict[str, str]) -> None:
    assert resolve("tasks", Broker(options()), {**ENV, **switched}) is None
