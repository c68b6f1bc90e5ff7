"""Queues and mappings: messages a second, and what depth does to them.

Each figure is a median; depths and peers take turns within one run, so that a slow moment of the
machine hits all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib.util
import json
import logging
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from _table import Row, absent, parser, report, row

from twolane_local.aws.endpoint import AwsEndpoint
from twolane_local.aws.event_source_mapping import EventSourceMapping
from twolane_local.aws.guard import function_environment
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.lambda_.functions import Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment
from twolane_local.aws.lambda_.isolated import IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, QueueMappingSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

SHALLOW, DEEP = 1_000, 100_000
ROUNDS = 5
#: A Celery message of protocol 2 with a small argument has about this size.
BODY = json.dumps({"body": "x" * 900})
HANDLER = "def handler(event, context):\n    return {'batchItemFailures': []}\n"


@contextlib.asynccontextmanager
async def functions(directory: str, *, isolated: bool) -> AsyncIterator[tuple[Functions, Journal]]:
    """One function, with the environments that `twolane up` would give it."""
    journal = Journal(SystemClock())
    spec = FunctionSpec("worker", "Worker", "worker.handler", Path(directory), timeout_s=30)
    environ = function_environment(spec, endpoint_url="http://127.0.0.1:9")
    launcher = ForkLauncher()

    def make(spec: FunctionSpec, owner: Any) -> Any:
        if isolated:
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=launcher, journal=journal
            )
        return InProcessEnvironment(spec, environ, owner=owner, journal=journal)

    found = Functions([spec], make, journal)
    await found.warm()
    try:
        yield found, journal
    finally:
        await found.close()
        await launcher.close()


@contextlib.contextmanager
def handler_directory() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "worker.py").write_text(HANDLER)
        yield directory


def filled(journal: Journal, depth: int) -> QueueService:
    queues = QueueService(SystemClock(), journal)
    queues.create("q", {"VisibilityTimeout": "600"})
    fill(queues, depth)
    return queues


async def through_a_mapping(invoker: Functions, journal: Journal, queues: QueueService) -> float:
    """Seconds a message, for a thousand messages of what is queued."""
    deleted = 0
    done = asyncio.Event()

    def count(event: Any) -> None:
        nonlocal deleted
        deleted += event.kind == "message.deleted"
        if deleted >= SHALLOW:
            done.set()

    forget = journal.subscribe(count)
    spec = QueueMappingSpec("worker", queues.arn("q"), 10, report_batch_item_failures=True)
    mapping = EventSourceMapping(spec, queues, invoker, queues.clock, journal)
    started = time.perf_counter()
    polling = asyncio.create_task(mapping.run())
    await done.wait()
    took = (time.perf_counter() - started) / deleted
    await mapping.drain()
    forget()
    polling.cancel()
    await asyncio.wait([polling])
    return took


async def mapping_rows(*, isolated: bool, target: int) -> list[Row]:
    """Messages a second with batches of ten, and the cost of depth."""
    name = "isolated" if isolated else "in-process"
    shallow, deep = [], []
    with handler_directory() as directory:
        async with functions(directory, isolated=isolated) as (invoker, journal):
            few, many = filled(journal, SHALLOW), filled(journal, DEEP)
            await through_a_mapping(invoker, journal, few)
            for _ in range(ROUNDS):
                fill(few, SHALLOW)
                shallow.append(await through_a_mapping(invoker, journal, few))
                fill(many, DEEP)
                deep.append(await through_a_mapping(invoker, journal, many))
    ratio = statistics.median(deep) / statistics.median(shallow)
    return [
        row(f"mapping, {name}, {SHALLOW:,} queued", 1 / statistics.median(shallow), "msg/s",
            f">= {target}"),
        row(f"mapping, {name}, {DEEP:,} queued", 1 / statistics.median(deep), "msg/s",
            f">= {target}"),
        row(f"mapping, {name}, cost of a message at {DEEP:,} to {SHALLOW:,}", ratio, "x", "<= 1.5"),
    ]  # fmt: skip


#: How many messages the quiet tenant of ``dwell_rows`` sends, and the seconds between them.
QUIET, PAUSE_S = 20, 0.1


async def dwell_rows() -> list[Row]:
    """What a tenant with a few messages waits beside one with very many, on one queue."""
    with handler_directory() as directory:
        async with functions(directory, isolated=False) as (invoker, journal):
            alike = await dwell_s(invoker, journal, fair=False)
            fair = await dwell_s(invoker, journal, fair=True)
    name = f"wait of a quiet tenant beside {DEEP:,} messages"
    return [
        row(f"{name}, no groups", alike * 1_000, "ms"),
        row(f"{name}, MessageGroupId", fair * 1_000, "ms"),
        row(f"{name}, ratio", alike / fair, "x", ">= 20"),
    ]


async def dwell_s(invoker: Functions, journal: Journal, *, fair: bool) -> float:
    """The median time from sending to receiving, over the endpoint and through a mapping."""
    sent: dict[str, float] = {}
    received: dict[str | None, float] = {}
    done = asyncio.Event()

    def watch(event: Any) -> None:
        if event.kind == "message.received":
            received[event.message_id] = event.at
            check()

    def check() -> None:
        if len(sent) == QUIET and sent.keys() <= received.keys():
            done.set()

    with ours(journal) as (port, queues):
        queues.configure("q", {"VisibilityTimeout": "600"})
        fill(queues, DEEP, "noisy" if fair else None)
        call, group = Http(port), {"MessageGroupId": "quiet"} if fair else {}
        spec = QueueMappingSpec("worker", queues.arn("q"), 10, report_batch_item_failures=True)
        mapping = EventSourceMapping(spec, queues, invoker, queues.clock, journal)
        polling = asyncio.create_task(mapping.run())
        forget = journal.subscribe(watch)
        for _ in range(QUIET):
            await asyncio.sleep(PAUSE_S)
            at = queues.clock.time()
            answer = await asyncio.to_thread(call, "SendMessage", MessageBody=BODY, **group)
            sent[answer["MessageId"]] = at
        check()
        await done.wait()
        await mapping.drain()
        forget()
        polling.cancel()
        await asyncio.wait([polling])
        call.close()
    return statistics.median(received[one] - at for one, at in sent.items())


class Http:
    """SQS calls over one kept-alive connection, with no SDK in between."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._url = f"http://127.0.0.1:{port}/123456789012/q"

    def __call__(self, action: str, **params: Any) -> dict[str, Any]:
        headers = {
            "X-Amz-Target": f"AmazonSQS.{action}",
            "Content-Type": "application/x-amz-json-1.0",
            "Authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/sqs/aws4_request",
        }
        body = json.dumps({"QueueUrl": self._url, **params})
        self._connection.request("POST", "/", body, headers)
        answer: dict[str, Any] = json.loads(self._connection.getresponse().read() or b"{}")
        return answer

    def close(self) -> None:
        self._connection.close()


def sends(call: Http, number: int) -> float:
    started = time.perf_counter()
    for _ in range(number):
        call("SendMessage", MessageBody=BODY)
    return number / (time.perf_counter() - started)


def receives(call: Http, number: int) -> float:
    """Milliseconds to receive ten messages."""
    took = []
    for _ in range(number):
        started = time.perf_counter()
        answer = call("ReceiveMessage", MaxNumberOfMessages=10, VisibilityTimeout=600)
        took.append((time.perf_counter() - started) * 1_000)
        assert len(answer["Messages"]) == 10
    return statistics.median(took)


@contextlib.contextmanager
def ours(journal: Journal | None = None) -> Any:
    """Our endpoint, its loop in a thread of this process; gives its port and its queues."""
    clock = SystemClock()
    journal = journal or Journal(clock)
    queues = QueueService(clock, journal)
    queues.create("q")
    invoker: Any = None

    async def nowhere(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("only SQS is called here")

    invocations = AsyncInvocations(invoker, {}, queues, clock, journal)
    app: Any = AwsEndpoint(
        queues, invoker, fallback=nowhere, functions={}, asynchronous=invocations
    )
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1], queues
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def moto_server() -> Any:
    """moto's server, likewise."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


def http_rows() -> list[Row]:
    """Sends and receives over HTTP, at both depths."""
    empty, shallow, deep = [], [], []
    with ours() as (port, queues):
        call = Http(port)
        sends(call, 200)
        for _ in range(ROUNDS):
            queues.delete_queue("q", name_is_free=True)
            queues.create("q")
            empty.append(sends(call, 300))
            fill(queues, SHALLOW)
            shallow.append(receives(call, 50))
        fill(queues, DEEP)
        deep_sends = [sends(call, 300) for _ in range(ROUNDS)]
        deep = [receives(call, 50) for _ in range(ROUNDS)]
        call.close()
    median = statistics.median
    return [
        row("SendMessage over HTTP, empty queue", median(empty), "1/s"),
        row(f"SendMessage over HTTP, {DEEP:,} queued", median(deep_sends), "1/s"),
        row("cost of a send, deep to empty", median(empty) / median(deep_sends), "x", "<= 1.5"),
        row(f"ReceiveMessage of ten over HTTP, {DEEP:,} queued", median(deep), "ms"),
        row("cost of a receive, deep to shallow", median(deep) / median(shallow), "x", "<= 1.5"),
        *against_moto(median(empty), median(deep_sends)),
    ]


def fill(queues: QueueService, depth: int, group: str | None = None) -> None:
    new = NewMessage(BODY, group_id=group)
    while queues.refreshed("q").count("visible") < depth:
        queues.send("q", new)


def against_moto(empty: float, deep: float) -> list[Row]:
    """The same calls on moto's SQS, which counts every message on each of them."""
    names = "sends against moto's, empty queue", "sends against moto's, 500 queued, ours 100,000"
    if importlib.util.find_spec("moto") is None:
        return [absent(name, "x", "moto is not installed") for name in names]
    with moto_server() as port:
        call = Http(port)
        call("CreateQueue", QueueName="q")
        theirs = sends(call, 100)
        for _ in range(40):
            entries = [{"Id": str(number), "MessageBody": BODY} for number in range(10)]
            call("SendMessageBatch", Entries=entries)
        theirs_deep = sends(call, 30)
        call.close()
    return [row(names[0], empty / theirs, "x"), row(names[1], deep / theirs_deep, "x")]


async def measure() -> list[Row]:
    rows = await mapping_rows(isolated=False, target=2_000)
    if sys.platform == "linux":
        rows += await mapping_rows(isolated=True, target=1_000)
    else:
        rows.append(absent("mapping, isolated", "msg/s", "awslambdaric has wheels for Linux only"))
    return [*rows, *await dwell_rows()]


def main(arguments: Callable[[], list[str]] | None = None) -> None:
    flags = parser(__doc__).parse_args(arguments() if arguments else None)
    rows = asyncio.run(measure()) + http_rows()
    report("Queues and mappings", rows, as_json=flags.json)


if __name__ == "__main__":
    main()
