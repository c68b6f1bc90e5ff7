"""The resources of a stack in the control API's shapes, and the results of tasks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.remote.account import aws_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.remote.account import Account
    from twolane_local.remote.source import JsonObject


@dataclass(frozen=True, slots=True)
class StackResource:
    """``physical_id`` is the service's own name: a queue's URL, a function's name."""

    logical_id: str
    kind: str
    physical_id: str


@dataclass(frozen=True, slots=True)
class StackResources:
    """The existing resources of a stack and of the stacks nested in it."""

    stack: str
    all: tuple[StackResource, ...]

    def of(self, kind: str) -> tuple[StackResource, ...]:
        """Return those of a type such as ``AWS::SQS::Queue``."""
        return tuple(each for each in self.all if each.kind == kind)


def read_resources(account: Account, stack: str) -> StackResources:
    """Read a stack's resources from CloudFormation. Raises ``LocalError`` if it does not exist:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_ListStackResources.html
    """
    found = tuple(_resources_of(account, stack))
    if not found:
        raise LocalError(f"stack {stack} has no resources in {account.region}")
    return StackResources(stack, found)


def _resources_of(account: Account, stack: str) -> Iterator[StackResource]:
    client = account.client("cloudformation")
    with aws_errors(f"stack {stack} in {account.region}"):
        pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
        listed = [each for page in pages for each in page["StackResourceSummaries"]]
    for each in listed:
        physical_id = each.get("PhysicalResourceId")
        if not physical_id or each.get("ResourceStatus") == "DELETE_COMPLETE":
            continue
        if each["ResourceType"] == "AWS::CloudFormation::Stack":
            yield from _resources_of(account, physical_id)
        else:
            yield StackResource(each["LogicalResourceId"], each["ResourceType"], physical_id)


class StackFunctions:
    """Reads the stack's functions from Lambda, but never their environment variables."""

    def __init__(self, account: Account, resources: StackResources) -> None:
        self._account = account
        self.names = {
            resource.physical_id: resource.logical_id
            for resource in resources.of("AWS::Lambda::Function")
        }

    def listed(self) -> list[JsonObject]:
        """Return the ``Function`` of each, without environments: only the emulator sees those."""
        return [
            function_shape(self._configuration(name), logical_id, self._reserved(name))
            for name, logical_id in sorted(self.names.items())
        ]

    def log_groups(self) -> dict[str, str]:
        """Return the log group of each function: its configured one, or Lambda's default."""
        found = {}
        for name in self.names:
            logging = self._configuration(name).get("LoggingConfig") or {}
            found[name] = str(logging.get("LogGroup") or f"/aws/lambda/{name}")
        return found

    def name_of(self, wanted: str) -> str:
        """Return the name of a function, given by name or logical id. Raises ``LocalError``."""
        for name, logical_id in self.names.items():
            if wanted in {name, logical_id}:
                return name
        known = ", ".join(sorted(self.names.values())) or "none"
        raise LocalError(f"the stack has no function {wanted!r}; it has: {known}")

    def _configuration(self, name: str) -> Mapping[str, Any]:
        with aws_errors(f"function {name}"):
            found: Mapping[str, Any] = self._account.client("lambda").get_function_configuration(
                FunctionName=name
            )
        return found

    def _reserved(self, name: str) -> int | None:
        with aws_errors(f"concurrency of {name}"):
            answer = self._account.client("lambda").get_function_concurrency(FunctionName=name)
        reserved = answer.get("ReservedConcurrentExecutions")
        return None if reserved is None else int(reserved)


def function_shape(
    configuration: Mapping[str, Any], logical_id: str, reserved: int | None
) -> JsonObject:
    """https://docs.aws.amazon.com/lambda/latest/api/API_GetFunctionConfiguration.html"""
    return {
        "name": configuration["FunctionName"],
        "logicalId": logical_id,
        "handler": configuration.get("Handler"),
        "runtime": configuration.get("Runtime"),
        "memoryMb": configuration.get("MemorySize"),
        "timeoutSeconds": configuration.get("Timeout"),
        "concurrency": {"reserved": reserved},
        "state": configuration.get("State"),
        "lastModified": configuration.get("LastModified"),
    }


#: Numbers of GetQueueAttributes, by our names.
_NUMBERS = {
    "visible": "ApproximateNumberOfMessages",
    "inFlight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
    "visibilityTimeout": "VisibilityTimeout",
    "delaySeconds": "DelaySeconds",
    "retentionSeconds": "MessageRetentionPeriod",
}


class StackQueues:
    """Reads queues from SQS, whose counts are approximate, and mappings from Lambda."""

    def __init__(self, account: Account, resources: StackResources) -> None:
        self._account = account
        self.urls = {
            resource.physical_id.rpartition("/")[2]: resource.physical_id
            for resource in resources.of("AWS::SQS::Queue")
        }
        #: The names by logical id, which commands accept too.
        self._logical = {
            resource.logical_id: resource.physical_id.rpartition("/")[2]
            for resource in resources.of("AWS::SQS::Queue")
        }
        self._stack = resources.stack

    def name_of(self, wanted: str) -> str:
        """Return the name of a queue, given by name or logical id. Raises ``LocalError``."""
        name = self._logical.get(wanted, wanted)
        if name not in self.urls:
            known = ", ".join(sorted(self.urls)) or "none"
            raise LocalError(f"stack {self._stack} has no queue {wanted!r}; it has: {known}")
        return name

    def listed(self) -> list[JsonObject]:
        """Return the ``Queue`` of each, without what only metrics have: age and throughput."""
        raw = {name: self._attributes(url) for name, url in sorted(self.urls.items())}
        names = {attributes["QueueArn"]: name for name, attributes in raw.items()}
        found = [queue_shape(name, self.urls[name], values) for name, values in raw.items()]
        for queue in found:
            queue["deadLetterOf"] = [
                other["name"] for other in found if other.get("deadLetterArn") == queue["arn"]
            ]
            queue["mappings"] = self._mappings(queue["arn"])
        for queue in found:
            if (arn := queue.pop("deadLetterArn", None)) is not None:
                queue["deadLetterQueue"] = names.get(arn, arn)
        return found

    def _attributes(self, url: str) -> Mapping[str, str]:
        with aws_errors(f"queue {url}"):
            answer = self._account.client("sqs").get_queue_attributes(
                QueueUrl=url, AttributeNames=["All"]
            )
        found: Mapping[str, str] = answer["Attributes"]
        return found

    def _mappings(self, arn: str) -> list[JsonObject]:
        with aws_errors(f"event source mappings of {arn}"):
            pages = self._account.client("lambda").get_paginator("list_event_source_mappings")
            listed = [
                each
                for page in pages.paginate(EventSourceArn=arn)
                for each in page["EventSourceMappings"]
            ]
        # https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
        return [
            {
                "id": each["UUID"],
                "function": each["FunctionArn"].partition(":function:")[2].partition(":")[0],
                "enabled": each.get("State") in {"Enabled", "Enabling", "Updating", "Creating"},
                "batchSize": each.get("BatchSize"),
                "maximumConcurrency": (each.get("ScalingConfig") or {}).get("MaximumConcurrency"),
            }
            for each in listed
        ]


def queue_shape(name: str, url: str, attributes: Mapping[str, str]) -> JsonObject:
    """Return a ``Queue`` from GetQueueAttributes; ``deadLetterArn`` stands for ``deadLetterQueue``:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
    """
    queue: JsonObject = {"name": name, "arn": attributes["QueueArn"], "url": url}
    queue["fifo"] = name.endswith(".fifo")
    queue |= {ours: int(attributes[theirs]) for ours, theirs in _NUMBERS.items()
              if theirs in attributes}  # fmt: skip
    if attributes.get("RedrivePolicy"):
        policy = json.loads(attributes["RedrivePolicy"])
        queue["deadLetterArn"] = policy["deadLetterTargetArn"]
        queue["maxReceiveCount"] = int(policy["maxReceiveCount"])
    return queue


@dataclass(frozen=True, slots=True)
class StoredCall:
    """The task's name and arguments in a stored result."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def stored_call(account: Account, resources: StackResources, task_id: str) -> StoredCall:
    """Read the call from a table of the stack. Raises ``LocalError`` if it is not there.

    Celery stores a task's name and arguments beside its result if ``result_extended`` is set:
    https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-extended
    """
    client = account.client("dynamodb")
    # Celery's DynamoDB backend writes the `str` of a key that is bytes: "b'celery-…'".
    key = str(f"celery-task-meta-{task_id}".encode())
    for table in resources.of("AWS::DynamoDB::Table"):
        with aws_errors(f"table {table.physical_id}"):
            keys = client.describe_table(TableName=table.physical_id)["Table"]["KeySchema"]
            if [key["AttributeName"] for key in keys] != ["id"]:
                continue
            item = client.get_item(TableName=table.physical_id, Key={"id": {"S": key}}).get("Item")
        if item is not None:
            return call_of(item, task_id)
    raise LocalError(
        f"no table of stack {resources.stack} has a result of task {task_id}. A stack has no "
        "journal: only a task with a stored result (whole id, DynamoDB) or a dead letter (`twolane "
        "dlq redrive`) can be run again"
    )


def call_of(item: Mapping[str, Any], task_id: str) -> StoredCall:
    """Return the call in an item that Celery's DynamoDB backend wrote."""
    stored = item["result"]
    meta = json.loads(stored.get("B") or stored.get("S"))
    if not meta.get("name") or meta.get("args") is None:
        raise LocalError(
            f"the result of task {task_id} does not contain the task's name and arguments: set "
            "result_extended=True in Celery's configuration, or send the task with `twolane send`"
        )
    return StoredCall(meta["name"], tuple(meta["args"]), dict(meta.get("kwargs") or {}))


def list_schedules(account: Account, resources: StackResources) -> list[JsonObject]:
    """Return the ``Schedule`` of each, without next and last times: EventBridge has none."""
    found = _scheduler(account, resources) + _rules(account, resources)
    return sorted(found, key=lambda schedule: str(schedule["name"]))


def beat_function(account: Account, resources: StackResources) -> str:
    """Return the one function that the stack's schedules invoke, or raise ``LocalError``."""
    own = {each.physical_id for each in resources.of("AWS::Lambda::Function")}
    found = sorted({each["target"] for each in list_schedules(account, resources)} & own)
    if len(found) != 1:
        raise LocalError(
            f"stack {resources.stack}: the beat function is not clear; name it with --function "
            f"(schedules invoke: {', '.join(found) or 'none'})"
        )
    return str(found[0])


def _scheduler(account: Account, resources: StackResources) -> list[JsonObject]:
    names = {each.physical_id for each in resources.of("AWS::Scheduler::Schedule")}
    if not names:
        return []
    client = account.client("scheduler")
    with aws_errors("schedules"):
        pages = client.get_paginator("list_schedules").paginate()
        # CloudFormation does not name the schedules' groups.
        summaries = [each for page in pages for each in page["Schedules"] if each["Name"] in names]
        return [
            schedule_shape(client.get_schedule(Name=each["Name"], GroupName=each["GroupName"]))
            for each in summaries
        ]


def _rules(account: Account, resources: StackResources) -> list[JsonObject]:
    rules = resources.of("AWS::Events::Rule")
    if not rules:
        return []
    client = account.client("events")
    found = []
    for each in rules:
        # CloudFormation's id of a rule on a custom bus is BUS|NAME.
        bus, _, name = each.physical_id.rpartition("|")
        where = {"EventBusName": bus} if bus else {}
        with aws_errors(f"rule {name}"):
            rule = client.describe_rule(Name=name, **where)
            if rule.get("ScheduleExpression"):
                targets = client.list_targets_by_rule(Rule=name, **where)["Targets"]
                # https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeRule.html
                found += [
                    {
                        "name": rule["Name"],
                        "group": rule.get("EventBusName", "default"),
                        "source": "rule",
                        "expression": rule["ScheduleExpression"],
                        "timezone": "UTC",
                        "enabled": rule.get("State") == "ENABLED",
                        "target": target["Arn"].rpartition(":")[2],
                    }
                    for target in targets
                ]
    return found


def schedule_shape(schedule: Mapping[str, Any]) -> JsonObject:
    """https://docs.aws.amazon.com/scheduler/latest/APIReference/API_GetSchedule.html"""
    return {
        "name": schedule["Name"],
        "group": schedule.get("GroupName", "default"),
        "source": "scheduler",
        "expression": schedule["ScheduleExpression"],
        "timezone": schedule.get("ScheduleExpressionTimezone", "UTC"),
        "enabled": schedule.get("State") == "ENABLED",
        "target": schedule["Target"]["Arn"].rpartition(":")[2],
    }
