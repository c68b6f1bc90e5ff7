"""Retries, time-outs and connection reuse, against a real HTTP server that misbehaves."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from kombu.exceptions import OperationalError

from twolane.environment.invocation import deadline
from twolane.errors import PublishError
from twolane.publish.client import ATTEMPT_S, ATTEMPTS, RESERVE_S, TOTAL_S, Credentials, SqsClient
from twolane.publish.errors import EnqueueError
from twolane.publish.transport import Endpoint, Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane.publish.client import Response


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(time: Time) -> Iterator[SqsClient]:
    client = SqsClient(monotonic=lambda: time.now, sleep=time.sleep, jitter=lambda: 0.5)
    yield client
    client.close()


def send(client: SqsClient, url: str) -> dict[str, Any]:
    target = Target("http://q/1/tasks", Endpoint.of(url), "us-east-1", Credentials("AKID", "s"))
    return client.call("SendMessage", target, {"MessageBody": "hello"})


def test_a_request_is_sqs_json(client: SqsClient, scripted: Any) -> None:
    assert send(client, scripted.url) == {"MessageId": "m"}
    (seen,) = scripted.seen
    assert seen.json == {"QueueUrl": "http://q/1/tasks", "MessageBody": "hello"}
    assert seen.headers["x-amz-target"] == "AmazonSQS.SendMessage"
    assert seen.headers["content-type"] == "application/x-amz-json-1.0"
    assert seen.headers["host"] == Endpoint.of(scripted.url).host
    assert seen.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKID/")


def test_requests_share_one_connection(client: SqsClient, scripted: Any) -> None:
    for _ in range(5):
        send(client, scripted.url)
    assert len({seen.connection for seen in scripted.seen}) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {}),
        (503, {"__type": "com.amazonaws.sqs#ServiceUnavailable"}),
        (429, {}),
        (400, {"__type": "com.amazonaws.sqs#RequestThrottled"}),
        (403, {"__type": "com.amazonaws.sqs#KmsThrottled"}),
        (None, {}),
    ],
)
def test_what_passes_is_tried_again_with_jitter(
    client: SqsClient, scripted: Any, time: Time, status: int | None, body: dict[str, Any]
) -> None:
    scripted.will(status, **body)
    scripted.will(status, **body)
    assert send(client, scripted.url) == {"MessageId": "m"}
    assert time.waits == [0.025, 0.05]


def test_what_stays_is_not_tried_again(client: SqsClient, scripted: Any, time: Time) -> None:
    scripted.will(400, __type="com.amazonaws.sqs#QueueDoesNotExist", message="no such queue")
    with pytest.raises(EnqueueError, match="QueueDoesNotExist: no such queue") as caught:
        send(client, scripted.url)
    assert caught.value.code == "QueueDoesNotExist"
    assert isinstance(caught.value, PublishError)
    assert isinstance(caught.value, OperationalError)
    assert (len(scripted.seen), time.waits) == (1, [])


@pytest.mark.parametrize("body", [{}, {"welcome": "to the hotel's network"}])
def test_a_200_that_is_not_from_sqs_is_no_promise(
    client: SqsClient, scripted: Any, body: dict[str, Any]
) -> None:
    scripted.will(200, **body)
    with pytest.raises(EnqueueError, match="200 no code"):
        send(client, scripted.url)
    assert len(scripted.seen) == 1


def test_attempts_end(client: SqsClient, scripted: Any, time: Time) -> None:
    for _ in range(ATTEMPTS):
        scripted.will(500)
    with pytest.raises(EnqueueError, match="500 no code"):
        send(client, scripted.url)
    assert len(scripted.seen) == ATTEMPTS
    assert len(time.waits) == ATTEMPTS - 1


def test_nobody_listens(client: SqsClient, time: Time) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(EnqueueError, match=r"did not answer .*ConnectionRefusedError"):
            send(client, url)


def test_a_silent_server_costs_no_more_than_the_whole_time_out(scripted: Any) -> None:
    """The kernel takes the connection, nobody answers: each wait is cut by what is left."""
    timeouts: list[float] = []
    now = [0.0]

    class Silent(SqsClient):
        def _post(self, *args: Any) -> Response:
            timeouts.append(args[-1])
            now[0] += args[-1]
            raise TimeoutError("timed out")

    client = Silent(monotonic=lambda: now[0], sleep=lambda _: None)
    with pytest.raises(EnqueueError, match="TimeoutError"):
        send(client, scripted.url)
    assert timeouts == [ATTEMPT_S, TOTAL_S - ATTEMPT_S]

    timeouts.clear()
    token = deadline.set(now[0] + 7)
    try:
        with pytest.raises(EnqueueError, match="TimeoutError"):
            send(client, scripted.url)
    finally:
        deadline.reset(token)
    assert timeouts == [ATTEMPT_S, ATTEMPT_S, ATTEMPT_S, 7 - RESERVE_S - 3 * ATTEMPT_S]


def test_a_real_time_out_ends_a_request(scripted: Any) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        client = SqsClient(sleep=lambda _: None)
        token = deadline.set(client._monotonic() + RESERVE_S + 0.05)
        try:
            with pytest.raises(EnqueueError, match="did not answer"):
                send(client, f"http://127.0.0.1:{mute.getsockname()[1]}")
        finally:
            deadline.reset(token)
            client.close()


def test_an_invocation_without_time_sends_nothing(
    client: SqsClient, scripted: Any, time: Time
) -> None:
    token = deadline.set(time.now + RESERVE_S)
    try:
        with pytest.raises(EnqueueError, match="No time is left"):
            send(client, scripted.url)
    finally:
        deadline.reset(token)
    assert scripted.seen == []
