"""https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html, in virtual time."""

from __future__ import annotations

import json
from pathlib import Path

from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations, EventLog
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock.virtual import run_virtual
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

FAILURE = b'{"errorMessage":"no","errorType":"Error"}'
QUEUE = "arn:aws:sqs:us-east-1:123456789012:failed"


class Function:
    """Answers the invocations from a list, and repeats its last answer."""

    def __init__(self, clock, answers):
        self.clock, self.answers, self.calls = clock, list(answers), []

    async def invoke(
        self, function, event, *, request_id=None, client_context="", trace_headers=()
    ):
        self.calls.append((round(self.clock.time() - 1_767_225_600), function, request_id))
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if answer == "throttled":
            raise ThrottledError
        if answer == "breaks":
            raise RuntimeError("no environment")
        if answer == "fails":
            return Invocation(request_id, FAILURE, "Unhandled")
        return Invocation(request_id, b'"done"')


def run(answers, seconds, **spec):
    """The function's calls, the messages to its queue and other destinations, and the log (the
    request's id where nothing was).
    """

    async def main(clock):
        function = Function(clock, answers)
        journal = Journal(clock)
        queues = QueueService(clock, journal)
        queues.create("failed")
        functions = {
            "f": FunctionSpec("f", "F", "app.handler", Path(), **spec),
            "other": FunctionSpec("other", "O", "app.handler", Path()),
        }
        sent = []

        async def deliver(arn, body):
            sent.append((arn, json.loads(body)))

        invocations = AsyncInvocations(function, functions, queues, clock, journal, deliver=deliver)
        request_id = invocations.submit("f", b'{"n":1}')
        await clock.sleep(seconds)
        await invocations.close()
        assert all(called[2] == request_id for called in function.calls if called[1] == "f")
        messages = [one.message for one in queues.receive("failed", 10)]
        said = [event.data["message"] for event in journal if event.data.get("level") == "ERROR"]
        return function.calls, messages, sent, said or request_id

    return run_virtual(main)


def times(calls):
    return [at for at, _, _ in calls]


def test_a_success_runs_once():
    calls, messages, _, _ = run(["ok"], 86_400, event_invoke=on("OnFailure"))
    assert times(calls) == [0]
    assert messages == []


def test_a_failure_is_tried_again_after_one_and_after_two_minutes():
    calls, _, _, _ = run(["fails"], 86_400)
    assert times(calls) == [0, 60, 180]
    calls, _, _, _ = run(["fails", "ok"], 86_400)
    assert times(calls) == [0, 60]


def test_the_number_of_retries_can_be_set():
    calls, _, _, _ = run(["fails"], 86_400, event_invoke={"MaximumRetryAttempts": 0})
    assert times(calls) == [0]


def test_an_event_that_is_too_old_is_not_tried_again():
    calls, messages, _, _ = run(
        ["fails"], 86_400, event_invoke={"MaximumEventAgeInSeconds": 60, **on("OnFailure")}
    )
    assert times(calls) == [0, 60]
    context = json.loads(messages[0].body)["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 2)


def test_throttles_are_tried_again_with_growing_waits_and_use_up_no_retry():
    calls, _, _, _ = run(["throttled"] * 3 + ["fails"], 1_000)
    assert times(calls) == [0, 1, 3, 7, 67, 187]


def test_throttles_end_after_six_hours():
    calls, messages, _, _ = run(["throttled"], 86_400, event_invoke=on("OnFailure"))
    assert 21_000 < times(calls)[-1] <= 21_600
    record = json.loads(messages[0].body)
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record


def on(*sides, arn=QUEUE):
    return {"DestinationConfig": {side: {"Destination": arn} for side in sides}}


# https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html


def test_the_record_of_a_failure():
    _, messages, _, request_id = run(["fails"], 1_000, event_invoke=on("OnFailure"))
    assert [json.loads(message.body) for message in messages] == [
        {
            "version": "1.0",
            "timestamp": "2026-01-01T00:03:00.000Z",
            "requestContext": {
                "requestId": request_id,
                "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": {"n": 1},
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": {"errorMessage": "no", "errorType": "Error"},
        }
    ]


def test_the_record_of_a_success():
    _, messages, _, request_id = run(["ok"], 10, event_invoke=on("OnSuccess"))
    assert [json.loads(message.body) for message in messages] == [
        {
            "version": "1.0",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "requestContext": {
                "requestId": request_id,
                "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:$LATEST",
                "condition": "Success",
                "approximateInvokeCount": 1,
            },
            "requestPayload": {"n": 1},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
            "responsePayload": "done",
        }
    ]


def test_a_destination_may_be_a_function_or_a_topic():
    arn = "arn:aws:lambda:us-east-1:123456789012:function:other"
    calls, _, _, _ = run(["ok"], 10, event_invoke=on("OnSuccess", arn=arn))
    assert [name for _, name, _ in calls] == ["f", "other"]
    topic = "arn:aws:sns:us-east-1:123456789012:topic"
    _, _, sent, _ = run(["ok"], 10, event_invoke=on("OnSuccess", arn=topic))
    assert sent[0][0] == topic
    assert sent[0][1]["requestContext"]["condition"] == "Success"


def test_a_dead_letter_queue_gets_the_event_itself():
    _, messages, _, request_id = run(["fails"], 1_000, dead_letter_arn=QUEUE)
    (message,) = messages
    assert message.body == '{"n":1}'
    assert {name: (v.data_type, v.string) for name, v in message.attributes.items()} == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "no"),
    }


def test_a_destination_that_is_not_there_is_said():
    arn = "arn:aws:sqs:us-east-1:123456789012:nowhere"
    calls, _, _, said = run(["ok"], 10, event_invoke=on("OnSuccess", arn=arn))
    assert len(calls) == 1
    assert arn in said[0]
    arn = "arn:aws:lambda:us-east-1:123456789012:function:nowhere"
    assert arn in run(["ok"], 10, event_invoke=on("OnSuccess", arn=arn))[3][0]


def test_a_system_error_is_said_and_tried_again():
    calls, _, _, said = run(["breaks", "ok"], 10)
    assert times(calls) == [0, 1]
    assert "no environment" in said[0]


def test_what_was_accepted_outlives_the_process(tmp_path):
    """The first process ends between two tries, the second takes the event up."""

    def process(answers, *, first, seconds):
        async def main(clock):
            function, journal = Function(clock, answers), Journal(clock)
            queues = QueueService(clock, journal)
            queues.create("failed")
            spec = FunctionSpec("f", "F", "app.handler", Path(), event_invoke=on("OnFailure"))
            log = EventLog(tmp_path)
            invocations = AsyncInvocations(function, {"f": spec}, queues, clock, journal, log=log)
            if first:
                invocations.submit("f", b'{"n":1}', client_context="{}")
            else:
                invocations.resume()
            await clock.sleep(seconds)
            await invocations.close()
            log.close()
            return function.calls, [one.message.body for one in queues.receive("failed", 10)]

        return run_virtual(main)

    calls, messages = process(["fails"], first=True, seconds=100)
    assert (times(calls), messages) == ([0, 60], [])
    request_id = calls[0][2]
    calls, messages = process(["fails"], first=False, seconds=1_000)
    assert calls == [(0, "f", request_id)], "the third and last try"
    assert json.loads(messages[0])["requestContext"]["approximateInvokeCount"] == 3
    assert process(["fails"], first=False, seconds=1_000) == ([], [])
