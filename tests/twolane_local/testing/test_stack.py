"""The whole way of the data, in one process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.errors import HandlerImportError
from twolane_local.testing import TestingError
from twolane_local.testing.project import of_handlers, of_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def test_a_request_becomes_a_task(stack: Twolane, application: Any) -> None:
    answer = stack.client.post("/notes/first")
    assert answer.status_code == 200
    assert application.calls == []
    assert [task.name for task in stack.queue("tasks").tasks] == ["small.note"]
    assert stack.deferred.run() == 1
    assert application.calls == [("first", NEW_YEAR)]
    task = stack.tasks[answer.json()["id"]]
    assert (task.state, task.steps) == ("SUCCESS", ["published", "started", "succeeded"])
    assert application.celery.AsyncResult(task.id).result == "first"


def test_time_stands_still_everywhere(stack: Twolane) -> None:
    assert time.time() == NEW_YEAR
    assert datetime.now(UTC).isoformat() == "2026-01-01T00:00:00+00:00"
    assert stack.client.get("/now").json() == {"now": NEW_YEAR}
    stack.clock.advance(90)
    assert stack.client.get("/now").json() == {"now": NEW_YEAR + 90}


def test_a_request_that_sleeps_takes_virtual_time(stack: Twolane) -> None:
    assert stack.client.get("/sleep/20").json() == {"now": NEW_YEAR + 20}


def test_a_request_beyond_the_gateways_limit_is_cut_off(stack: Twolane) -> None:
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html: 30 s
    assert stack.client.get("/sleep/40").status_code == 503


@pytest.mark.parametrize("how", ["async", "thread"])
def test_the_response_leaves_before_a_background_task(
    stack: Twolane, application: Any, how: str
) -> None:
    stack.client.post(f"/inline/45?how={how}")
    assert application.calls == [("inline", NEW_YEAR + 45)]
    told = {event.kind: event.at - NEW_YEAR for event in stack.journal}
    assert told["request.answered"] == 0
    assert told["inline.succeeded"] == told["invocation.ended"] == 45


def test_background_work_beyond_the_timeout_is_killed(
    make: Callable[..., Twolane], application: Any
) -> None:
    stack = make()
    assert stack.client.post("/inline/70").status_code == 200
    assert application.calls == []
    assert stack.journal.find("environment.stopped")[0].at == NEW_YEAR + 60
    assert "inline.succeeded" not in stack.journal.kinds
    # The next request meets a new environment.
    assert stack.client.get("/now").json() == {"now": NEW_YEAR + 60}


def test_what_was_revoked_in_a_stack_is_not_in_the_next(
    make: Callable[..., Twolane], application: Any
) -> None:
    """A seed gives both of them the same ids, and Celery remembers what it has discarded."""
    first = make()
    identity = application.celery.send_task("small.note", ("first",)).id
    application.celery.control.revoke(identity)
    first.deferred.run()
    assert first.tasks[identity].state == "REVOKED"
    first.close()
    second = make()
    assert application.celery.send_task("small.note", ("second",)).id == identity
    second.deferred.run()
    assert second.tasks[identity].state == "SUCCESS"


def test_a_retry_chain_of_a_day(stack: Twolane, application: Any) -> None:
    identity = stack.client.post("/run/chain", json=[12]).json()["id"]
    stack.deferred.run_until_idle()
    assert [name for name, _ in application.calls] == [f"attempt {n}" for n in range(13)]
    assert application.calls[-1][1] == pytest.approx(NEW_YEAR + 86_400, abs=20)
    assert stack.tasks[identity].state == "SUCCESS"


def test_what_always_fails_ends_on_the_dead_letter_queue(stack: Twolane) -> None:
    identity = stack.client.post("/run/broken", json=[]).json()["id"]
    stack.deferred.run_until_idle()
    assert stack.tasks[identity].state == "DEAD"
    dead = stack.queue("tasks").dead_letters
    assert [message.task.id for message in dead] == [identity]
    assert len(stack.queue("tasks")) == 0
    assert stack.queue("tasks").redrive() == 1


def test_a_task_beyond_the_timeout_is_interrupted_in_its_sleep(
    stack: Twolane, application: Any
) -> None:
    identity = stack.client.post("/run/slow", json=[100]).json()["id"]
    stack.deferred.run()
    assert [name for name, _ in application.calls] == ["slow begins"]
    assert stack.tasks[identity].state == "FAILURE"
    assert 50 < stack.clock.time - NEW_YEAR < 60


def test_boto3_reaches_the_queues(stack: Twolane) -> None:
    import boto3

    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName="tasks")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="by hand", DelaySeconds=10)
    assert [message.body for message in stack.queue("tasks").messages] == ["by hand"]
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)
    assert stack.clock.time == NEW_YEAR + 5
    received = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
    assert stack.clock.time == NEW_YEAR + 10
    assert [message["Body"] for message in received] == ["by hand"]
    assert len(stack.queue("tasks").in_flight) == 1


def test_boto3_invokes_functions(stack: Twolane) -> None:
    import boto3

    with pytest.raises(Exception, match="ResourceNotFound"):
        boto3.client("lambda").invoke(FunctionName="Nobody")
    event = {"Records": []}
    answer = boto3.client("lambda").invoke(FunctionName="Worker", Payload=json.dumps(event))
    assert json.loads(answer["Payload"].read()) == {"batchItemFailures": []}


@pytest.mark.parametrize("event", [{"Records": []}, b'{"Records": []}'])
def test_an_event_is_json_or_what_becomes_it(stack: Twolane, event: Any) -> None:
    done = stack.invoke("Worker", event)
    assert (done.error, json.loads(done.payload)) == (None, {"batchItemFailures": []})


def test_two_runs_of_a_seed_tell_the_same_story(make: Callable[..., Twolane]) -> None:
    def story(seed: int) -> tuple[str, list[Any]]:
        stack = make(seed=seed)
        for number in range(3):
            stack.client.post(f"/notes/{number}?countdown={number * 10}")
        stack.client.post("/run/broken", json=[])
        stack.deferred.run_until_idle()
        events = [(e.kind, e.at, e.message_id, e.task_id, e.request_id) for e in stack.journal]
        stack.close()
        return stack.journal.story(), events

    story(1)
    assert story(7) == story(7)
    assert story(7)[1] != story(8)[1]


def test_a_stack_leaves_nothing_behind(make: Callable[..., Twolane]) -> None:
    before, sleep = dict(os.environ), time.sleep
    stack = make()
    stack.client.post("/notes/1")
    assert os.environ["AWS_ACCESS_KEY_ID"] == "local"
    stack.close()
    assert dict(os.environ) == before
    assert time.sleep is sleep
    assert time.time() > NEW_YEAR + 86_400


def test_the_next_stack_begins_empty(make: Callable[..., Twolane], application: Any) -> None:
    first = make()
    identity = first.client.post("/notes/1").json()["id"]
    first.deferred.run()
    first.close()
    second = make()
    assert len(second.queue("tasks")) == 0
    assert application.celery.AsyncResult(identity).state == "PENDING"


def test_a_coroutine_may_drive_it(stack: Twolane) -> None:
    import asyncio

    async def test() -> float:
        stack.client.get("/sleep/3")
        return asyncio.get_running_loop().time()

    assert asyncio.run(test()) > 0
    assert stack.clock.time == NEW_YEAR + 3


def test_a_handler_that_does_not_import_is_said(make: Callable[..., Twolane]) -> None:
    with pytest.raises(HandlerImportError, match=r"Api: handler nowhere\.handler"):
        make(of_handlers(api="nowhere.handler"))


def test_inline_code_runs_and_what_cannot_run_fails_alone(
    make: Callable[..., Twolane], tmp_path: Path
) -> None:
    for word in ("ding", "dong", "ding dong"):  # a process may read many templates
        path = tmp_path / f"{word}.yaml"
        path.write_text(f"""
Transform: AWS::Serverless-2016-10-31
Resources:
  Bell:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      InlineCode: "def handler(event, context): return '{word}'"
  Painter:
    Type: AWS::Serverless::Function
    Properties: {{CodeUri: ., Runtime: nodejs22.x, Handler: brush.paint}}
""")
        of_template(path, {})
    stack = make(of_template(tmp_path / "ding.yaml", {}))
    assert json.loads(stack.invoke("Bell", b"{}").payload) == "ding"
    painter = stack.invoke("Painter", b"{}")
    assert painter.error == "Unhandled"
    assert "nodejs22.x" in json.loads(painter.payload)["errorMessage"]


def test_a_handler_cannot_drive_the_stack(make: Callable[..., Twolane]) -> None:
    def api(event: Any, context: Any) -> Any:
        stack.clock.advance(1)

    stack = make(of_handlers(api=api))
    invocation = stack.invoke("Api", b"{}")
    assert "the test drives the stack" in json.loads(invocation.payload)["errorMessage"]


def test_what_never_happens_is_an_error(stack: Twolane) -> None:
    import asyncio

    with pytest.raises(TestingError, match="nothing is left that could wake it"):
        stack.world.run(asyncio.Event().wait())


def test_no_api_is_said(make: Callable[..., Twolane], application: Any) -> None:
    stack = make(of_handlers(worker=application.worker))
    with pytest.raises(TestingError, match="no API"):
        _ = stack.client


def test_coroutine_tasks_wait_side_by_side_in_virtual_time(
    stack: Twolane, application: Any
) -> None:
    @application.celery.task(shared=False, name="small.wait", bind=True)  # type: ignore[untyped-decorator]
    async def wait(self: Any, seconds: float) -> str:
        application.calls.append((f"begins {seconds:g}", time.time()))
        await asyncio.sleep(seconds)
        application.calls.append((f"ends {seconds:g}", time.time()))
        return str(self.request.id)

    ids = [stack.client.post("/run/wait", json=[seconds]).json()["id"] for seconds in (20, 10, 15)]
    assert stack.deferred.run() == 3
    assert application.calls == [
        ("begins 20", NEW_YEAR), ("begins 10", NEW_YEAR), ("begins 15", NEW_YEAR),
        ("ends 10", NEW_YEAR + 10), ("ends 15", NEW_YEAR + 15), ("ends 20", NEW_YEAR + 20),
    ]  # fmt: skip
    assert [application.celery.AsyncResult(one).result for one in ids] == ids


def test_a_coroutine_task_has_the_functions_timeout(stack: Twolane, application: Any) -> None:
    @application.celery.task(shared=False, name="small.forever")  # type: ignore[untyped-decorator]
    async def forever(seconds: float) -> None:
        await asyncio.sleep(seconds)

    answer = stack.client.post("/run/forever", json=[10_000])
    stack.deferred.run()
    result = application.celery.AsyncResult(answer.json()["id"])
    assert (result.state, type(result.result).__name__) == ("FAILURE", "SoftTimeLimitExceeded")
