"""Lambda's recursive-loop detection in the fixture, where a user's test meets it first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from celery import chain

from twolane import WorkerHandler
from twolane_local.testing.project import of_handlers, queue_url

from .conftest import celery_app

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from twolane_local.testing.project import Project
    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")

FORTY = 40


@pytest.fixture
def ran() -> list[int]:
    return []


@pytest.fixture
def celery(ran: list[int]) -> Iterator[Celery]:
    app = celery_app()

    @app.task(shared=False, name="small.link")
    def link(number: int) -> None:
        ran.append(number)

    @app.task(shared=False, name="small.retried", bind=True, max_retries=None)
    def retried(self: Any) -> None:
        ran.append(self.request.retries)
        if self.request.retries < FORTY:
            raise self.retry(countdown=1)

    @app.task(shared=False, name="small.start")
    def start(what: str) -> None:
        if what == "retries":
            retried.delay()
        else:
            chain(*(link.si(number) for number in range(FORTY + 1))).delay()

    yield app
    app.close()


def project(celery: Celery, recursive_loop: str) -> Project:
    return of_handlers(
        worker=WorkerHandler(celery), recursive_loop=recursive_loop, visibility_timeout_s=60
    )


def begin(stack: Twolane, celery: Celery, what: str) -> None:
    """As an API would: from outside of any chain."""
    celery.send_task("small.start", (what,))
    stack.deferred.run_until_idle()


@pytest.mark.parametrize("what", ["retries", "chain"])
def test_forty_of_them_end_where_the_loop_is_allowed(
    make: Callable[..., Twolane], celery: Celery, ran: list[int], what: str
) -> None:
    stack = make(project(celery, "Allow"))
    begin(stack, celery, what)
    assert ran == list(range(FORTY + 1))
    assert stack.queue("tasks").dead_letters == []


@pytest.mark.parametrize("what", ["retries", "chain"])
def test_they_are_stopped_after_sixteen_invocations_where_it_is_not(
    make: Callable[..., Twolane], celery: Celery, ran: list[int], what: str
) -> None:
    stack = make(project(celery, "Terminate"))
    begin(stack, celery, what)
    assert ran == list(range(15)), "the first invocation was that of small.start"
    (dead,) = stack.queue("tasks").dead_letters
    assert dead.receive_count == 5, "it is received, and refused, until maxReceiveCount"
    refused = [event for event in stack.events if event.kind == "invocation.dropped"]
    assert len(refused) == 5
    assert refused[0].function == "Worker"
    assert refused[0].data["metric"] == "RecursiveInvocationsDropped"
    assert "RecursiveLoop: Allow" in refused[0].data["message"]
    lines = [str(event.data.get("message")) for event in stack.events if event.kind == "log"]
    assert any("until they go to tasks-dead after 5 receives" in line for line in lines)


def test_a_redrive_begins_a_new_chain(
    make: Callable[..., Twolane], celery: Celery, ran: list[int]
) -> None:
    stack = make(project(celery, "Terminate"))
    begin(stack, celery, "chain")
    assert stack.queue("tasks").redrive() == 1
    stack.deferred.run_until_idle()
    assert ran == list(range(31)), "sixteen more"
    assert len(stack.queue("tasks").dead_letters) == 1, "and it is stopped again"


def test_what_boto3_sends_from_a_function_is_of_its_chain(make: Callable[..., Twolane]) -> None:
    """As botocore does it, with a header of the request; and one at a time, or ten."""
    seen: list[str] = []

    def worker(event: Any, context: Any) -> None:
        sqs = boto3.client("sqs", region_name="us-east-1")
        seen.extend(record["body"] for record in event["Records"])
        number = len(seen)
        if number % 2:
            sqs.send_message(QueueUrl=queue_url("tasks"), MessageBody=str(number))
        else:
            entries = [{"Id": "a", "MessageBody": str(number)}]
            sqs.send_message_batch(QueueUrl=queue_url("tasks"), Entries=entries)

    stack = make(of_handlers(worker=worker, visibility_timeout_s=60))
    stack.queue("tasks").send("0")
    stack.deferred.run_until_idle()
    assert seen == [str(number) for number in range(16)]
    assert [message.body for message in stack.queue("tasks").dead_letters] == ["16"]


def test_asynchronously_too(make: Callable[..., Twolane]) -> None:
    calls: list[int] = []

    def worker(event: Any, context: Any) -> None:
        calls.append(event["n"])
        boto3.client("lambda", region_name="us-east-1").invoke(
            FunctionName="Worker", InvocationType="Event",
            Payload=json.dumps({"n": event["n"] + 1}).encode(),
        )  # fmt: skip

    stack = make(of_handlers(worker=worker))
    stack.invoke("Worker", b'{"n": 0}')
    stack.clock.advance(3600)
    assert calls == list(range(16)), "and it is not tried again"
    assert len([event for event in stack.events if event.kind == "invocation.dropped"]) == 1


def test_the_configuration_is_changed_by_the_api(make: Callable[..., Twolane]) -> None:
    seen: list[str] = []

    def worker(event: Any, context: Any) -> None:
        seen.extend(record["body"] for record in event["Records"])
        if len(seen) < FORTY:
            sqs = boto3.client("sqs", region_name="us-east-1")
            sqs.send_message(QueueUrl=queue_url("tasks"), MessageBody="again")

    stack = make(of_handlers(worker=worker))
    client = boto3.client("lambda", region_name="us-east-1")
    assert client.get_function_recursion_config(FunctionName="Worker")["RecursiveLoop"] == (
        "Terminate"
    )
    client.put_function_recursion_config(FunctionName="Worker", RecursiveLoop="Allow")
    assert client.get_function_recursion_config(FunctionName="Worker")["RecursiveLoop"] == "Allow"
    stack.queue("tasks").send("first")
    stack.deferred.run_until_idle()
    assert len(seen) == FORTY
    with pytest.raises(ClientError, match=r"enum value set: .Allow, Terminate"):
        client.put_function_recursion_config(FunctionName="Worker", RecursiveLoop="Maybe")


def test_chains_that_begin_elsewhere_are_never_taken_for_one(
    make: Callable[..., Twolane], celery: Celery, ran: list[int]
) -> None:
    stack = make(project(celery, "Terminate"))
    for number in range(FORTY):
        celery.send_task("small.link", (number,))
        stack.deferred.run_until_idle()
    assert ran == list(range(FORTY))
