"""What the documentation says of AWS and could not be verified without an account, as checks.

Each check asks a deployed stack (or the emulator, which is asked the same) and says what it saw.
The list of unverified statements in ``docs/limits.md`` is made from this file, and code that leans
on such a statement names its check: ``unverified: NAME``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Asked(Protocol):
    """A stack that runs: on AWS, or in the emulator."""

    outputs: Mapping[str, str]
    #: The stack's name; and the region, keys and endpoint that reach it, as the SDKs' variables.
    name: str
    environ: Mapping[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client."""

    def request(self, method: str, url: str) -> tuple[int, float, str]:
        """Status, seconds and body; the token is named."""

    def invoke(self, function: str, payload: Any, qualifier: str = "") -> tuple[Any, str]:
        """What a function returned, and the end of its log."""

    def notes(self, kind: str) -> list[dict[str, Any]]:
        """What functions have written down, in order."""

    def wait(self, condition: Callable[[], Any], limit_s: float) -> Any:
        """The first true value of the condition; what it says then, where time is up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """``holds``: whether the statement was seen to be true; ``None``: a figure, not a statement."""

    said: str
    holds: bool | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    statement: str
    page: str
    ask: Callable[[Asked], Answer]


CHECKS: list[Check] = []

_LAMBDA = "https://docs.aws.amazon.com/lambda/latest/dg/"
_SQS = "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
_SCHEDULER = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/"
_GATEWAY = "https://docs.aws.amazon.com/apigateway/latest/developerguide/"

#: How long the work after a response takes; the response must be there long before.
_WORK_S = 3.0


def check(name: str, statement: str, page: str) -> Callable[[Callable[[Asked], Answer]], Check]:
    def listed(ask: Callable[[Asked], Answer]) -> Check:
        one = Check(name, statement, page, ask)
        CHECKS.append(one)
        return one

    return listed


# When the response leaves.


def _early(stack: Asked, base: str, kind: str) -> Answer:
    of = f"{kind}-{uuid.uuid4().hex[:8]}"
    # The first request waits for a cold start, which says nothing about the second.
    stack.request("POST", f"{base}/work/warm?seconds=0")
    status, seconds, body = stack.request("POST", f"{base}/work/{of}?seconds={_WORK_S}")
    done = stack.wait(lambda: [one for one in stack.notes("worked") if one["of"] == of], 30)
    early = status == 200 and seconds < _WORK_S / 2
    return Answer(
        f"{status} after {seconds:.2f} s, the work of {_WORK_S:g} s "
        + ("was done after it" if done else "was not done"),
        early and bool(done),
        {"status": status, "seconds": seconds, "done": bool(done), "body": body[:200]},
    )


@check(
    "early-http-api",
    "Behind an HTTP API the response leaves before background tasks run.",
    _LAMBDA + "runtimes-extensions-api.html",
)
def early_http_api(stack: Asked) -> Answer:
    return _early(stack, stack.outputs["HttpApiUrl"], "http")


@check(
    "early-rest-api",
    "Behind a REST API the response leaves before background tasks run.",
    _LAMBDA + "runtimes-extensions-api.html",
)
def early_rest_api(stack: Asked) -> Answer:
    return _early(stack, stack.outputs["RestApiUrl"], "rest")


@check(
    "early-function-url",
    "Behind a function URL the response leaves before background tasks run.",
    _LAMBDA + "runtimes-extensions-api.html",
)
def early_function_url(stack: Asked) -> Answer:
    return _early(stack, stack.outputs["FunctionUrl"].rstrip("/"), "url")


@check(
    "timeout-after-response",
    "A timeout after the response ends the environment; the client's response stands.",
    _LAMBDA + "lambda-runtime-environment.html",
)
def timeout_after_response(stack: Asked) -> Answer:
    base = stack.outputs["HttpApiUrl"]
    status, seconds, body = stack.request("POST", f"{base}/block")
    first = _environment(body)
    time.sleep(12)  # the function's timeout is 10 s
    _, _, body = stack.request("POST", f"{base}/work/warm?seconds=0")
    second = _environment(body)
    same = first == second
    return Answer(
        f"{status} after {seconds:.2f} s; the next request meets "
        + ("the same environment" if same else "another environment"),
        status == 200 and not same,
        {"status": status, "seconds": seconds, "same": same},
    )


def _environment(body: str) -> str:
    try:
        return str(json.loads(body)["environment"])
    except (ValueError, KeyError, TypeError):
        return f"no environment: {body[:80]}"


# Throttles.


@check(
    "throttled-http-api",
    'A throttled function behind an HTTP API answers 503 {"message":"Service Unavailable"}.',
    _GATEWAY + "http-api-troubleshooting-lambda.html",
)
def throttled_http_api(stack: Asked) -> Answer:
    status, _, body = stack.request("GET", stack.outputs["HttpApiUrl"] + "/throttled")
    return Answer(f"{status} {body[:80]}", status == 503, {"status": status, "body": body[:200]})


@check(
    "throttled-rest-api",
    'A throttled function behind a REST API answers 500 {"message":"Internal server error"}.',
    _GATEWAY + "supported-gateway-response-types.html",
)
def throttled_rest_api(stack: Asked) -> Answer:
    status, _, body = stack.request("GET", stack.outputs["RestApiUrl"] + "/throttled")
    return Answer(f"{status} {body[:80]}", status == 500, {"status": status, "body": body[:200]})


@check(
    "head-too-large",
    "An API whose request line and headers have more than 10,240 bytes answers 431.",
    _GATEWAY + "http-api-quotas.html",
)
def head_too_large(stack: Asked) -> Answer:
    status, _, body = stack.request("GET", f"{stack.outputs['HttpApiUrl']}/?x={'x' * 10_240}")
    return Answer(f"{status} {body[:80]}", status == 431, {"status": status, "body": body[:200]})


@check(
    "throttled-function-url",
    "A throttled function behind a function URL answers 429.",
    _LAMBDA + "urls-configuration.html",
)
def throttled_function_url(stack: Asked) -> Answer:
    status, _, body = stack.request("GET", stack.outputs["ThrottledUrl"])
    return Answer(f"{status} {body[:80]}", status == 429, {"status": status, "body": body[:200]})


@check(
    "streaming-url",
    "A function URL that is set to stream answers as a buffered one where the runtime does not "
    "stream.",
    _LAMBDA + "configuration-response-streaming.html",
)
def streaming_url(stack: Asked) -> Answer:
    status, _, body = stack.request("GET", stack.outputs["StreamUrl"])
    return Answer(
        f"{status} {body[:80]}", (status, body) == (200, "buffered"), {"body": body[:200]}
    )


# Environments.


@check(
    "freeze",
    "Between invocations an environment is frozen: its threads stand still, and its clocks go on.",
    _LAMBDA + "lambda-runtime-environment.html",
)
def freeze(stack: Asked) -> Answer:
    function = stack.outputs["PlainFunction"]
    before, _ = stack.invoke(function, {})
    time.sleep(5)
    after, _ = stack.invoke(function, {})
    if before["environment"] != after["environment"]:
        return Answer("the second invocation met another environment: nothing was seen")
    ticks = after["ticks"] - before["ticks"]
    wall, monotonic = after["time"] - before["time"], after["monotonic"] - before["monotonic"]
    return Answer(
        f"in {wall:.1f} s a thread ran {ticks} times of {wall * 10:.0f}; the monotonic clock went "
        f"on by {monotonic:.1f} s",
        ticks < 10 and abs(wall - monotonic) < 1,
        {"ticks": ticks, "wall_s": wall, "monotonic_s": monotonic},
    )


def _inits_ms(stack: Asked, function: str, count: int = 4) -> list[float]:
    """The init durations of so many environments at once, from the ends of their logs."""
    with ThreadPoolExecutor(count) as together:
        tails = [
            tail
            for _, tail in together.map(
                lambda _: stack.invoke(function, {"sleep_s": 2}), range(count)
            )
        ]
    found = []
    for tail in tails:
        _, mark, rest = tail.partition("Init Duration: ")
        if mark:
            found.append(float(rest.split(" ")[0]))
    return found


@check(
    "cold-start",
    "How long a cold start takes with shipped bytecode, and without: half at most.",
    _LAMBDA + "lambda-runtime-environment.html",
)
def cold_start(stack: Asked) -> Answer:
    compiled = _inits_ms(stack, stack.outputs["CompiledFunction"])
    source = _inits_ms(stack, stack.outputs["SourceFunction"])
    if not compiled or not source:
        return Answer("no init durations were in the logs")
    one, other = statistics.median(compiled), statistics.median(source)
    return Answer(
        f"{one:.0f} ms compiled, {other:.0f} ms from source ({one / other:.2f})",
        None,
        {"compiled_ms": compiled, "source_ms": source},
    )


@check(
    "snapstart",
    "From a snapshot, environments start with the same `random` state, without keys and log "
    "stream in their variables.",
    _LAMBDA + "snapstart-runtime-hooks-python.html",
)
def snapstart(stack: Asked) -> Answer:
    function = stack.outputs["SnapFunction"].split(":")[0]
    with ThreadPoolExecutor(2) as together:
        both = list(
            together.map(lambda _: stack.invoke(function, {"sleep_s": 2}, "live")[0], range(2))
        )
    kinds = {one["environ"].get("AWS_LAMBDA_INITIALIZATION_TYPE", "none") for one in both}
    same = both[0]["random"] == both[1]["random"]
    keys = any(one["keys_in_environment"] for one in both)
    stream = any("AWS_LAMBDA_LOG_STREAM_NAME" in one["environ"] for one in both)
    return Answer(
        f"initialization type {', '.join(sorted(kinds))}; random is "
        + ("the same" if same else "another")
        + f" in both; keys {'are' if keys else 'are not'} and a log stream "
        + f"{'is' if stream else 'is not'} in the variables",
        kinds == {"snap-start"} and same and not keys and not stream,
        {"kinds": sorted(kinds), "same_random": same, "keys": keys, "stream": stream},
    )


# Queues.


@check(
    "lineage",
    "A chain of requests that comes back to a function is stopped after about 16 invocations, and "
    "its message goes to the dead-letter queue.",
    _LAMBDA + "invocation-recursion.html",
)
def lineage(stack: Asked) -> Answer:
    stack.client("sqs").send_message(QueueUrl=stack.outputs["LoopQueueUrl"], MessageBody="1")
    dead = stack.outputs["LoopDeadLettersUrl"]
    stack.wait(
        lambda: _depth(stack, dead) or any(one["number"] >= 24 for one in stack.notes("hop")), 120
    )
    hops = [one["number"] for one in stack.notes("hop")]
    last = max(hops, default=0)
    headers = [one["header"] for one in stack.notes("hop") if one["number"] == last]
    stopped = bool(_depth(stack, dead))
    return Answer(
        f"{last} invocations of 24, the message "
        + ("is on the dead-letter queue" if stopped else "is not on the dead-letter queue"),
        stopped and 14 <= last <= 18,
        {"last": last, "dead_lettered": stopped, "header": (headers or [""])[0]},
    )


@check(
    "lineage-after-redrive",
    "SQS's own redrive (`StartMessageMoveTask`) leaves the count of that chain on the message: it "
    "is stopped again.",
    _LAMBDA + "invocation-recursion.html",
)
def lineage_after_redrive(stack: Asked) -> Answer:
    sqs, dead = stack.client("sqs"), stack.outputs["LoopDeadLettersUrl"]
    if not stack.wait(lambda: _depth(stack, dead), 5):
        stack.client("sqs").send_message(QueueUrl=stack.outputs["LoopQueueUrl"], MessageBody="1")
        if not stack.wait(lambda: _depth(stack, dead), 120):
            return Answer("no message was stopped, so none was redriven")
    before = max((one["number"] for one in stack.notes("hop")), default=0)
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
    sqs.start_message_move_task(SourceArn=arn["Attributes"]["QueueArn"])
    stack.wait(lambda: not _depth(stack, dead), 30)

    def ended() -> bool:
        return max(one["number"] for one in stack.notes("hop")) > before or bool(
            _depth(stack, dead)
        )

    stack.wait(ended, 150)
    after = max(one["number"] for one in stack.notes("hop"))
    return Answer(
        "it was stopped again"
        if after == before
        else f"the chain went on, from invocation {before} to {after} at least",
        after == before and bool(_depth(stack, dead)),
        {"before": before, "after": after},
    )


@check(
    "receive-count",
    "Visibility set to 0 brings a failed message back at once; the last receive is "
    "`maxReceiveCount`, and the count goes on on the dead-letter queue.",
    _SQS + "sqs-dead-letter-queues.html",
)
def receive_count(stack: Asked) -> Answer:
    queue, dead = stack.outputs["FailQueueUrl"], stack.outputs["FailDeadLettersUrl"]
    sqs = stack.client("sqs")
    sent = sqs.send_message(QueueUrl=queue, MessageBody="fails")["MessageId"]
    message: Any = stack.wait(
        lambda: sqs.receive_message(
            QueueUrl=dead, AttributeNames=["ApproximateReceiveCount"], WaitTimeSeconds=5
        ).get("Messages"),
        120,
    )
    received = [one for one in stack.notes("receive") if one["message"] == sent]
    counts = [one["count"] for one in received]
    took = received[-1]["at"] - received[0]["at"] if received else 0.0
    there = int(message[0]["Attributes"]["ApproximateReceiveCount"]) if message else None
    return Answer(
        f"received as {counts} within {took:.1f} s; {there} on the dead-letter queue",
        counts == [1, 2, 3] and took < 30 and there == 4,
        {"counts": counts, "took_s": took, "on_dead_letter_queue": there},
    )


@check(
    "filter-beside-body",
    "A mapping's filter on `messageAttributes` matches as one on `body` does.",
    _LAMBDA + "with-sqs-filtering.html",
)
def filter_beside_body(stack: Asked) -> Answer:
    sqs, queue = stack.client("sqs"), stack.outputs["FilteredQueueUrl"]
    for number, wanted in ((701, "yes"), (702, "no")):
        sqs.send_message(
            QueueUrl=queue,
            MessageBody=str(number),
            MessageAttributes={"wanted": {"DataType": "String", "StringValue": wanted}},
        )
    stack.wait(lambda: not _depth(stack, queue), 60)
    seen = sorted(one["number"] for one in stack.notes("hop") if one["number"] > 700)
    said = {(701,): "it matches", (701, 702): "it lets all through", (): "it matches nothing"}
    return Answer(said.get(tuple(seen), str(seen)), seen == [701], {"seen": seen})


@check(
    "throughput",
    "How long a mapping takes for 1,000 messages of a function that does nothing.",
    _LAMBDA + "services-sqs-scaling.html",
)
def throughput(stack: Asked) -> Answer:
    sqs, queue = stack.client("sqs"), stack.outputs["NothingQueueUrl"]

    def send(start: int) -> None:
        entries = [{"Id": str(number), "MessageBody": str(start + number)} for number in range(10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)

    began = time.monotonic()
    with ThreadPoolExecutor(8) as together:
        list(together.map(send, range(0, 1000, 10)))
    # The counts are approximate: twice in a row is believed.
    stack.wait(lambda: not _depth(stack, queue) and not _depth(stack, queue), 120)
    seconds = time.monotonic() - began
    return Answer(f"{seconds:.1f} s", None, {"seconds": seconds})


@check(
    "mapping-backoff",
    "How long a mapping takes to bring 20 messages to their dead-letter queue that fail each time, "
    "three receives each, and come back at once.",
    _LAMBDA + "services-sqs-errorhandling.html",
)
def mapping_backoff(stack: Asked) -> Answer:
    sqs, queue = stack.client("sqs"), stack.outputs["FailQueueUrl"]
    before = len(stack.notes("receive"))
    for start in range(0, 20, 10):
        entries = [{"Id": str(number), "MessageBody": str(start + number)} for number in range(10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    stack.wait(lambda: len(stack.notes("receive")) - before >= 60, 120)
    seen = stack.notes("receive")[before:]
    took = seen[-1]["at"] - seen[0]["at"] if seen else 0.0
    return Answer(f"{len(seen)} receives in {took:.1f} s", None, {"took_s": took})


@check(
    "publish-to-sqs",
    "SQS takes what the light publisher signs and sends.",
    "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html",
)
def publish_to_sqs(stack: Asked) -> Answer:
    from twolane.publish.client import SqsClient
    from twolane.publish.transport import Broker, resolve

    url = stack.outputs["ScheduledQueueUrl"]
    target = resolve("tasks", Broker({"predefined_queues": {"tasks": {"url": url}}}), stack.environ)
    if target is None:
        return Answer("the light path does not cover these credentials", False)
    body = f"published ü \U0001f600 {uuid.uuid4().hex}"
    said = SqsClient().call("SendMessage", target, {"MessageBody": body})
    sqs = stack.client("sqs")

    def come() -> bool:
        answer = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5, VisibilityTimeout=0)
        return any(one["Body"] == body for one in answer.get("Messages", ()))

    there = bool(stack.wait(come, 30))
    return Answer(
        "sent, and " + ("received as it was" if there else "not received"),
        "MessageId" in said and there,
    )


@check(
    "commands-on-aws",
    "`twolane queues` and `twolane dlq list` read a deployed stack.",
    "https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html",
)
def commands_on_aws(stack: Asked) -> Answer:
    said = []
    for command in (("queues",), ("dlq", "list")):
        line = (
            sys.executable,
            "-m",
            "twolane_local.cli",
            *command,
            "--stack",
            stack.name,
            "--json",
        )
        done = subprocess.run(
            line, env={**os.environ, **stack.environ}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            text = f"{' '.join(command)}: exit {done.returncode}, {done.stderr[-200:]}"
            return Answer(text, False)
        said.append(done.stdout)
    return Answer("both answer", "FailQueue" in said[0])


def _depth(stack: Asked, url: str) -> int:
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=wanted)
    return sum(int(answer["Attributes"][name]) for name in wanted)


# Schedules.


def _scheduled(stack: Asked, due: float) -> float | None:
    """Seconds from ``due`` to the message of a one-time schedule; ``None``: none has come."""
    name = f"proof-{uuid.uuid4().hex[:8]}"
    stack.client("scheduler").create_schedule(
        Name=name,
        GroupName=stack.outputs["ScheduleGroup"],
        ScheduleExpression=f"at({datetime.fromtimestamp(due, UTC):%Y-%m-%dT%H:%M:%S})",
        FlexibleTimeWindow={"Mode": "OFF"},
        ActionAfterCompletion="DELETE",
        Target={
            "Arn": stack.outputs["ScheduledQueueArn"],
            "RoleArn": stack.outputs["ScheduleRoleArn"],
            "Input": name,
        },
    )
    sqs, url = stack.client("sqs"), stack.outputs["ScheduledQueueUrl"]

    def come() -> float | None:
        answer = sqs.receive_message(
            QueueUrl=url, AttributeNames=["SentTimestamp"], WaitTimeSeconds=5, VisibilityTimeout=0
        )
        for message in answer.get("Messages", ()):
            if message["Body"] == name:
                return int(message["Attributes"]["SentTimestamp"]) / 1000 - due + 1e-6
        return None

    late: float | None = stack.wait(come, 100)
    return late


@check(
    "schedule-precision",
    "A one-time schedule fires within the minute after its time.",
    _SCHEDULER + "schedule-types.html",
)
def schedule_precision(stack: Asked) -> Answer:
    late = _scheduled(stack, float(int(time.time()) + 5))
    if late is None:
        return Answer("nothing came within 100 s", False)
    return Answer(f"{late:.1f} s late", 0 <= late <= 60, {"late_s": late})


@check(
    "schedule-in-the-past",
    "A one-time schedule whose time has passed is fired at once.",
    _SCHEDULER + "schedule-types.html",
)
def schedule_in_the_past(stack: Asked) -> Answer:
    try:
        late = _scheduled(stack, float(int(time.time()) - 120))
    except Exception as refused:  # noqa: BLE001 - what AWS says is the answer
        return Answer(f"refused: {refused}"[:120], False)
    if late is None:
        return Answer("taken, and nothing came within 100 s", False)
    return Answer(f"fired {late - 120:.1f} s after it was made", late < 180, {"late_s": late})
