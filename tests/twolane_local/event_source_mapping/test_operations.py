"""Mappings by the API: boto3 over real HTTP, a real mapping on real queues, a function of the test.

https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from twolane_local.aws.changes import Changes, ChangesLog
from twolane_local.aws.effective import declared
from twolane_local.aws.endpoint import AwsEndpoint
from twolane_local.aws.event_source_mapping import EventSourceMappings, identity_of
from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations
from twolane_local.aws.lambda_.mappings import (
    EventSourceMappingOperations,
    other_source,
    specification,
)
from twolane_local.aws.lambda_.settings import SettingOperations
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.sources import Sources
from twolane_local.aws.sqs.service import QueueService
from twolane_local.clock import SystemClock
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec, QueueMappingSpec, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

ARN = "arn:aws:sqs:us-east-1:123456789012:"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:"
DECLARED = QueueMappingSpec(
    "f", f"{ARN}declared", 5, enabled=False, uuid="WorkerEvents", filter_patterns=({"a": [1]},),
    shown={"FilterCriteria": {"Filters": [{"Pattern": '{ "a": [1] }'}]}, "Tags": {"of": "it"}},
)  # fmt: skip


class Function:
    """Remembers each batch; a body ``hold`` keeps its invocation until ``release`` is set."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[str]]] = []
        self.release = asyncio.Event()

    async def invoke(
        self, function, event, *, request_id=None, client_context="", trace_headers=()
    ):
        bodies = [record["body"] for record in json.loads(event)["Records"]]
        self.batches.append((function, bodies))
        if "hold" in bodies:
            await self.release.wait()
        return Invocation(request_id or "", b"null")


async def no_moto(scope, receive, send):
    raise AssertionError(scope["path"])


class World:
    """An endpoint with queues, functions that are known by name, and mappings, on a thread."""

    def __init__(self, persist: Path | None = None) -> None:
        self._persist = persist
        self._ready, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        self.client, self.sqs = self._boto3("lambda"), self._boto3("sqs")

    async def _serve(self) -> None:
        self.loop, clock = asyncio.get_running_loop(), SystemClock()
        journal = self.journal = Journal(clock)
        self.function = Function()
        self.queues, self.running = QueueService(clock, journal), EventSourceMappings()
        for name in ("declared", "q", "other"):
            self.queues.create(name)
        functions = {
            name: FunctionSpec(name, name, "app.handler", Path(), qualifiers=("1", "live"))
            for name in ("f", "g")
        }
        functions["slow"] = FunctionSpec("slow", "slow", "app.handler", Path(), timeout_s=60)
        asynchronous = AsyncInvocations(self.function, functions, self.queues, clock, journal)
        log = ChangesLog(self._persist) if self._persist else None
        self.changes = Changes(log)
        sources = Sources(
            self.queues, self.function, asynchronous, clock, journal,
            mappings=self.running, book=ScheduleBook(), failed=self._failed,
        )  # fmt: skip

        async def apply() -> None:
            specs = tuple(
                specification(identity, document)
                for identity, document in self.changes.all("mapping").items()
                if other_source(document) is None
            )
            await sources.apply(Stack("s", (), mappings=specs))

        self.changes.apply = apply
        self.declare(DECLARED)
        await apply()
        endpoint = AwsEndpoint(
            self.queues, self.function, fallback=no_moto, functions=functions,
            asynchronous=asynchronous,
            operations=[
                EventSourceMappingOperations(
                    self.changes, self.running, self.queues, functions, journal
                ),
                SettingOperations(self.changes, clock),
            ],
        )  # fmt: skip
        listener = bind(0, "--aws-port")
        server = HttpServer(endpoint, listener)
        await server.start()
        self.url = url_of(listener)
        self._ready.set()
        await asyncio.to_thread(self._end.wait)
        await server.stop()
        await sources.stop()
        if log is not None:
            log.close()

    def declare(self, spec: QueueMappingSpec) -> list[str]:
        return self.changes.declare(declared(Stack("s", (), mappings=(spec,))))

    @staticmethod
    def _failed(error: BaseException) -> None:
        raise error

    def _boto3(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1",
            aws_access_key_id="test", aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 0}, parameter_validation=False),
        )  # fmt: skip

    def send(self, queue: str, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=f"{self.url}/123456789012/{queue}", MessageBody=body)

    def wait_for(self, what) -> None:
        """Return once something is true on the emulator's loop, which is asked at each change."""

        async def wait() -> None:
            async with asyncio.timeout(10):
                while not what():
                    await asyncio.sleep(0.005)

        asyncio.run_coroutine_threadsafe(wait(), self.loop).result()

    def state(self, identity: str) -> str:
        return str(self.client.get_event_source_mapping(UUID=identity)["State"])

    def call(self, function) -> None:
        self.loop.call_soon_threadsafe(function)

    def close(self) -> None:
        self.client.close()
        self.sqs.close()
        self._end.set()
        self._thread.join(10)


@contextmanager
def running(persist: Path | None = None) -> Iterator[World]:
    world = World(persist)
    try:
        yield world
    finally:
        world.call(world.function.release.set)
        world.close()


@pytest.fixture(scope="module")
def shared():
    with running() as world:
        yield world


@pytest.fixture
def world(shared):
    """The shared one, without mappings of the API."""
    yield shared
    shared.call(shared.function.release.set)
    for each in shared.client.list_event_source_mappings()["EventSourceMappings"]:
        if not each["EventSourceArn"].endswith(":declared") and each["State"] != "Deleting":
            shared.client.delete_event_source_mapping(UUID=each["UUID"])
    shared.wait_for(lambda: len(list(shared.running)) == 1)
    shared.call(shared.function.release.clear)
    shared.function.batches.clear()


def plain(answer):
    """A response without what differs from run to run."""
    return {
        name: value for name, value in answer.items()
        if name not in {"ResponseMetadata", "LastModified", "UUID", "EventSourceMappingArn"}
    }  # fmt: skip


def create(world, queue="q", function="f", **more):
    return world.client.create_event_source_mapping(
        EventSourceArn=ARN + queue, FunctionName=function, **more
    )


def refusal(call, *args, **params):
    with pytest.raises(ClientError) as refused:
        call(*args, **params)
    response = refused.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


def invalid(message):
    return 400, "InvalidParameterValueException", message


MISSING = (404, "ResourceNotFoundException", "The resource you requested does not exist.")


def test_a_mapping_is_created_runs_and_is_deleted(world):
    before = datetime.now(UTC)
    made = create(world)
    identity = made["UUID"]
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert plain(made) == {
        "BatchSize": 10,
        "EventSourceArn": "arn:aws:sqs:us-east-1:123456789012:q",
        "FunctionArn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "FunctionResponseTypes": [],
        "MaximumBatchingWindowInSeconds": 0,
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
    }
    assert made["EventSourceMappingArn"] == (
        f"arn:aws:lambda:us-east-1:123456789012:event-source-mapping:{identity}"
    )
    assert abs((made["LastModified"] - before).total_seconds()) < 10
    world.wait_for(lambda: world.running.get(identity).state == "Enabled")
    got = world.client.get_event_source_mapping(UUID=identity)
    assert plain(got) == {**plain(made), "State": "Enabled"}
    world.send("q", "hello")
    world.wait_for(lambda: world.function.batches and not len(world.queues.refreshed("q")))
    assert world.function.batches == [("f", ["hello"])]
    gone = world.client.delete_event_source_mapping(UUID=identity)
    assert gone["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert plain(gone) == {**plain(made), "State": "Deleting"}
    world.wait_for(lambda: world.running.get(identity) is None)
    assert refusal(world.client.get_event_source_mapping, UUID=identity) == MISSING
    assert refusal(world.client.update_event_source_mapping, UUID=identity) == MISSING
    assert refusal(world.client.delete_event_source_mapping, UUID=identity) == MISSING


EVERYTHING = {
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 3,
    "FilterCriteria": {"Filters": [{"Pattern": '{ "body": [{"prefix": "a"}] }'}]},
    "FunctionResponseTypes": ["ReportBatchItemFailures"],
    "ScalingConfig": {"MaximumConcurrency": 7},
    "MetricsConfig": {"Metrics": ["EventCount"]},
    "KMSKeyArn": "arn:aws:kms:us-east-1:123456789012:key/k",
}


def test_every_parameter_of_a_queues_mapping(world):
    made = create(world, function="f:live", Enabled=False, Tags={"a": "b"}, **EVERYTHING)
    assert plain(made) == {
        **EVERYTHING,
        "EventSourceArn": ARN + "q",
        "FunctionArn": FUNCTION + "f:live",
        "State": "Disabled",
        "StateTransitionReason": "USER_INITIATED",
    }
    spec = world.running.get(made["UUID"]).spec
    assert (spec.function, spec.qualifier, spec.batch_size, spec.batching_window_s) == (
        "f", "live", 100, 3,
    )  # fmt: skip
    assert (spec.maximum_concurrency, spec.report_batch_item_failures) == (7, True)
    assert spec.filter_patterns == ({"body": [{"prefix": "a"}]},)
    (listed,) = world.client.list_event_source_mappings(FunctionName="f:live")[
        "EventSourceMappings"
    ]
    assert plain(listed) == {
        name: value for name, value in plain(made).items() if name != "FilterCriteria"
    }
    provisioned = create(
        world, "other", ProvisionedPollerConfig={"MinimumPollers": 3, "MaximumPollers": 10_000}
    )
    assert provisioned["ProvisionedPollerConfig"] == {"MinimumPollers": 3, "MaximumPollers": 10000}


def test_tags_of_mappings(world):
    """https://docs.aws.amazon.com/lambda/latest/dg/tags-esm.html"""
    client = world.client
    arn = create(world, Enabled=False, Tags={"a": "b"})["EventSourceMappingArn"]
    assert client.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    client.tag_resource(Resource=arn, Tags={"c": "d"})
    client.untag_resource(Resource=arn, TagKeys=["a"])
    assert client.list_tags(Resource=arn)["Tags"] == {"c": "d"}
    client.delete_event_source_mapping(UUID=arn.rpartition(":")[2])
    assert refusal(client.list_tags, Resource=arn) == (
        404, "ResourceNotFoundException", f"Event source mapping not found: {arn}",
    )  # fmt: skip
    prefix = arn.rpartition(":")[0]
    of_the_template = client.list_tags(Resource=f"{prefix}:{identity_of(DECLARED)}")
    assert of_the_template["Tags"] == {"of": "it"}


def test_an_update_changes_what_it_names_and_an_empty_value_removes(world):
    made = create(world, Enabled=False, **EVERYTHING)
    identity, client = made["UUID"], world.client
    changed = client.update_event_source_mapping(UUID=identity, BatchSize=50, FunctionName="g:1")
    assert plain(changed) == {
        **plain(made), "BatchSize": 50, "FunctionArn": FUNCTION + "g:1", "State": "Updating",
    }  # fmt: skip
    world.wait_for(lambda: world.running.get(identity).spec.batch_size == 50)
    emptied = client.update_event_source_mapping(
        UUID=identity, ScalingConfig={}, FilterCriteria={"Filters": []}, KMSKeyArn="",
        FunctionResponseTypes=[], MetricsConfig={"Metrics": []},
    )  # fmt: skip
    assert plain(emptied) == {
        "BatchSize": 50,
        "EventSourceArn": ARN + "q",
        "FunctionArn": FUNCTION + "g:1",
        "FunctionResponseTypes": [],
        "MaximumBatchingWindowInSeconds": 3,
        "State": "Updating",
        "StateTransitionReason": "USER_INITIATED",
    }
    world.wait_for(lambda: world.running.get(identity).state == "Disabled")
    world.send("q", "b")
    on = client.update_event_source_mapping(
        UUID=identity, Enabled=True, MaximumBatchingWindowInSeconds=0, BatchSize=10
    )
    assert on["State"] == "Enabling"
    world.wait_for(lambda: world.function.batches)
    assert world.function.batches == [("g:1", ["b"])]
    assert client.update_event_source_mapping(UUID=identity, Enabled=False)["State"] == "Disabling"
    world.wait_for(lambda: world.running.get(identity).state == "Disabled")


def test_a_mapping_that_is_in_use_is_neither_changed_nor_deleted(world):
    identity = create(world)["UUID"]
    world.send("q", "hold")
    world.wait_for(lambda: world.function.batches)
    client = world.client
    client.update_event_source_mapping(UUID=identity, BatchSize=3)
    shown = client.get_event_source_mapping(UUID=identity)
    assert (shown["State"], shown["BatchSize"]) == ("Updating", 3)
    for call, verb in (
        (client.update_event_source_mapping, "update"),
        (client.delete_event_source_mapping, "delete"),
    ):
        assert refusal(call, UUID=identity) == (
            400, "ResourceInUseException",
            f"Cannot {verb} the event source mapping because it is in use.",
        )  # fmt: skip
    # What waits for its batch holds up no other mapping.
    other = create(world, "other")["UUID"]
    world.send("other", "meanwhile")
    world.wait_for(lambda: len(world.function.batches) == 2)
    world.call(world.function.release.set)
    world.wait_for(lambda: world.running.get(identity).spec.batch_size == 3)
    assert {world.state(identity), world.state(other)} <= {"Enabled", "Creating"}
    assert len(world.queues.refreshed("q")) == 0


def test_a_mapping_ends_its_batch_before_it_is_gone(world):
    identity = create(world)["UUID"]
    world.send("q", "hold")
    world.wait_for(lambda: world.function.batches)
    world.client.delete_event_source_mapping(UUID=identity)
    assert world.state(identity) == "Deleting"
    (listed,) = world.client.list_event_source_mappings(EventSourceArn=ARN + "q")[
        "EventSourceMappings"
    ]
    assert listed["State"] == "Deleting"
    assert refusal(world.client.delete_event_source_mapping, UUID=identity)[1] == (
        "ResourceInUseException"
    )
    world.call(world.function.release.set)
    world.wait_for(lambda: world.running.get(identity) is None)
    assert len(world.queues.refreshed("q")) == 0


def test_mappings_are_listed_by_queue_by_function_and_by_page(world):
    made = [
        create(world, "q", "f", Enabled=False),
        create(world, "q", "f:live", Enabled=False),
        create(world, "other", "g:$LATEST", Enabled=False),
    ]
    one, live, other = (each["UUID"] for each in made)
    assert made[2]["FunctionArn"] == FUNCTION + "g:$LATEST"

    def listed(**query):
        found = world.client.list_event_source_mappings(**query)["EventSourceMappings"]
        return {each["UUID"] for each in found}

    declared = identity_of(DECLARED)
    assert listed() == {one, live, other, declared}
    assert listed(EventSourceArn=ARN + "q") == {one, live}
    assert listed(FunctionName="f") == {one, declared}
    assert listed(FunctionName=FUNCTION + "f:live") == {live}
    assert listed(FunctionName="123456789012:function:g") == {other}
    assert listed(FunctionName="doesnotexist") == set()
    assert listed(EventSourceArn=ARN + "nowhere") == set()
    pages = world.client.get_paginator("list_event_source_mappings").paginate(
        PaginationConfig={"PageSize": 3}
    )
    assert [len(page["EventSourceMappings"]) for page in pages] == [3, 1]


def test_the_templates_mapping_is_read_changed_and_deleted(world):
    identity = identity_of(DECLARED)
    shown = world.client.get_event_source_mapping(UUID=identity)
    assert plain(shown) == {
        "BatchSize": 5,
        "EventSourceArn": ARN + "declared",
        "FilterCriteria": {"Filters": [{"Pattern": '{ "a": [1] }'}]},
        "FunctionArn": FUNCTION + "f",
        "FunctionResponseTypes": [],
        "MaximumBatchingWindowInSeconds": 0,
        "State": "Disabled",
        "StateTransitionReason": "USER_INITIATED",
    }
    world.client.update_event_source_mapping(UUID=identity, BatchSize=6)
    world.wait_for(lambda: world.running.get(identity).spec.batch_size == 6)
    # A template that says the same again changes nothing; one that changes the mapping wins.
    assert world.declare(DECLARED) == []
    assert world.client.get_event_source_mapping(UUID=identity)["BatchSize"] == 6
    assert world.declare(replace(DECLARED, batch_size=7)) == [f"mapping {identity}"]
    assert world.client.get_event_source_mapping(UUID=identity)["BatchSize"] == 7
    world.declare(DECLARED)
    world.client.delete_event_source_mapping(UUID=identity)
    world.wait_for(lambda: world.running.get(identity) is None)
    assert world.declare(DECLARED) == []
    assert refusal(world.client.get_event_source_mapping, UUID=identity) == MISSING
    world.declare(replace(DECLARED, batch_size=7))
    world.declare(DECLARED)
    asyncio.run_coroutine_threadsafe(world.changes.apply(), world.loop).result()
    assert world.state(identity) == "Disabled"


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"EventSourceArn": None}, "Unrecognized event source."),
        ({"EventSourceArn": "arn:aws:s3:::bucket"}, "Unrecognized event source."),
        ({"FunctionName": "doesnotexist"}, "Function does not exist"),
        ({"FunctionName": "f:nowhere"}, "Function does not exist"),
        (
            {"EventSourceArn": ARN + "nowhere"},
            (
                "Error occurred while ReceiveMessage. SQS Error Code: "
                "AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue "
                "does not exist."
            ),
        ),
        (
            {"FunctionName": "slow"},
            "Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds",
        ),
        (
            {"BatchSize": 11},
            (
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is "
                "greater than 10"
            ),
        ),
        (
            {"EventSourceArn": ARN + "q.fifo", "MaximumBatchingWindowInSeconds": 1},
            "Batching window is not supported for FIFO queues",
        ),
        (
            {"EventSourceArn": ARN + "q.fifo", "BatchSize": 11},
            "Maximum batch size must be between 1 and 10 inclusive",
        ),
        (
            {"DestinationConfig": {"OnSuccess": {"Destination": ARN + "other"}}},
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            {"LoggingConfig": {"SystemLogLevel": "INFO"}},
            "Unsupported LoggingConfig parameter for given event source mapping type.",
        ),
        ({"StartingPosition": "LATEST"}, "StartingPosition is not valid for SQS event sources."),
        (
            {"ProvisionedPollerConfig": {"MinimumPollers": 9, "MaximumPollers": 8}},
            "MinimumPollers must not be above MaximumPollers",
        ),
        (
            {"ProvisionedPollerConfig": {"MinimumPollers": 1}},
            "MinimumPollers must be from 2 to 200",
        ),
        (
            {
                "ProvisionedPollerConfig": {"MinimumPollers": 2},
                "ScalingConfig": {"MaximumConcurrency": 2},
            },
            "MaximumConcurrency and provisioned mode exclude each other",
        ),
        *(
            (
                {"FilterCriteria": {"Filters": [{"Pattern": pattern}]}},
                "Invalid filter pattern definition.",
            )
            for pattern in (
                "null", "simple string", '{"eventSource": "aws:sqs"}', '{"eventSource": []}', "",
            )
        ),
    ],
)  # fmt: skip
def test_refused_parameters(world, params, message):
    given = {"EventSourceArn": ARN + "q", "FunctionName": "f", **params}
    given = {name: value for name, value in given.items() if value is not None}
    assert refusal(world.client.create_event_source_mapping, **given) == invalid(message)
    assert len(world.client.list_event_source_mappings()["EventSourceMappings"]) == 1


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"BatchSize": 0}, "'0' at 'batchSize'{} have value greater than or equal to 1"),
        ({"BatchSize": 10_001}, "'10001' at 'batchSize'{} have value less than or equal to 10000"),
        ({"MaximumBatchingWindowInSeconds": 301}, "'301' at 'maximumBatchingWindowInSeconds'{}"),
        (
            {"ScalingConfig": {"MaximumConcurrency": 1}},
            "'1' at 'scalingConfig.maximumConcurrency'{} have value greater than or equal to 2",
        ),
        ({"FunctionResponseTypes": ["All"]}, "'[All]' at 'functionResponseTypes'{}"),
        ({"FunctionName": None}, "null at 'functionName'{} not be null"),
        ({"EventSourceArn": "q"}, "'q' at 'eventSourceArn'{} satisfy regular expression pattern"),
    ],
)  # fmt: skip
def test_parameters_that_the_model_forbids(world, params, problem):
    given = {"EventSourceArn": ARN + "q", "FunctionName": "f", **params}
    given = {name: value for name, value in given.items() if value is not None}
    status, code, message = refusal(world.client.create_event_source_mapping, **given)
    assert (status, code) == (400, "ValidationException")
    begins = problem.format(" failed to satisfy constraint: Member must")
    assert message.startswith(f"1 validation error detected: Value {begins}")


def test_an_update_is_refused_as_a_creation_is(world):
    identity = create(world, Enabled=False)["UUID"]
    update = world.client.update_event_source_mapping
    assert refusal(update, UUID=identity, BatchSize=11)[2].startswith("Maximum batch window")
    assert refusal(update, UUID=identity, FunctionName="h")[2] == "Function does not exist"
    assert refusal(update, UUID=identity, FunctionName="slow")[2].startswith("Queue visibility")
    assert refusal(update, UUID=identity, ParallelizationFactor=2) == invalid(
        "Unsupported ParallelizationFactor parameter for given event source mapping type."
    )
    null = {"Filters": [{"Pattern": "null"}]}
    assert refusal(update, UUID=identity, FilterCriteria=null)[2].startswith("Invalid filter")
    assert world.client.get_event_source_mapping(UUID=identity)["BatchSize"] == 10


def test_a_second_mapping_of_a_queue_to_a_function_is_a_conflict(world):
    first = create(world, Enabled=False)["UUID"]
    for function in ("f", FUNCTION + "f", "f:$LATEST"):
        status, code, message = refusal(create, world, function=function)
        assert (status, code) == (409, "ResourceConflictException")
        assert message.startswith(f'An event source mapping with SQS arn (" {ARN}q ") and function')
        assert message.endswith(
            f"already exists. Please update or delete the existing mapping with UUID {first}"
        )
    second = create(world, function="f:live", Enabled=False)["UUID"]
    create(world, function="g", Enabled=False)
    update = world.client.update_event_source_mapping
    assert refusal(update, UUID=second, FunctionName="f")[1] == "ResourceConflictException"


STREAM = "arn:aws:dynamodb:us-east-1:123456789012:table/t/stream/2026-01-01T00:00:00.000"


def test_a_mapping_of_a_stream_is_kept_and_shown_and_gets_nothing(world):
    client = world.client
    given = {"EventSourceArn": STREAM, "FunctionName": "f"}
    assert refusal(client.create_event_source_mapping, **given) == invalid(
        "1 validation error detected: Value null at 'startingPosition' failed to satisfy "
        "constraint: Member must not be null."
    )
    at = {**given, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1}
    assert refusal(client.create_event_source_mapping, **at) == invalid(
        f"Unsupported starting position for arn type: {STREAM}"
    )
    made = client.create_event_source_mapping(
        **given, StartingPosition="LATEST", FilterCriteria={"Filters": []}
    )
    assert plain(made) == {
        "BatchSize": 100,
        "BisectBatchOnFunctionError": False,
        "DestinationConfig": {"OnFailure": {}},
        "EventSourceArn": STREAM,
        "FunctionArn": FUNCTION + "f",
        "FunctionResponseTypes": [],
        "LastProcessingResult": "No records processed",
        "MaximumBatchingWindowInSeconds": 0,
        "MaximumRecordAgeInSeconds": -1,
        "MaximumRetryAttempts": -1,
        "ParallelizationFactor": 1,
        "StartingPosition": "LATEST",
        "State": "Creating",
        "StateTransitionReason": "User action",
        "TumblingWindowInSeconds": 0,
    }
    assert [event.data["message"] for event in world.journal if event.kind == "log"][-1] == (
        "f gets nothing from a DynamoDB stream: only queues are read"
    )
    identity = made["UUID"]
    client.update_event_source_mapping(UUID=identity, MaximumRetryAttempts=3)
    shown = client.get_event_source_mapping(UUID=identity)
    assert (shown["State"], shown["MaximumRetryAttempts"]) == ("Enabled", 3)
    status, code, message = refusal(
        client.create_event_source_mapping, **given, StartingPosition="LATEST"
    )
    assert (status, code) == (409, "ResourceConflictException")
    assert message == (
        f'The event source arn (" {STREAM} ") and function (" f ") provided mapping already '
        f"exists. Please update or delete the existing mapping with UUID {identity}"
    )
    assert client.delete_event_source_mapping(UUID=identity)["State"] == "Deleting"
    assert refusal(client.get_event_source_mapping, UUID=identity) == MISSING


def test_mappings_of_the_api_outlive_the_emulator(tmp_path):
    with running(tmp_path) as world:
        identity = create(world, Tags={"a": "b"}, **EVERYTHING)["UUID"]
        world.client.update_event_source_mapping(UUID=identity_of(DECLARED), BatchSize=9)
        gone = create(world, "other")["UUID"]
        world.wait_for(lambda: world.running.get(gone).state == "Enabled")
        world.client.delete_event_source_mapping(UUID=gone)
    with running(tmp_path) as world:
        shown = world.client.get_event_source_mapping(UUID=identity)
        assert plain(shown).items() >= EVERYTHING.items()
        assert world.running.get(identity).spec.maximum_concurrency == 7
        assert world.client.get_event_source_mapping(UUID=identity_of(DECLARED))["BatchSize"] == 9
        assert refusal(world.client.get_event_source_mapping, UUID=gone) == MISSING
