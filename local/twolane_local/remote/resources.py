"""A stack's functions, in the control API's shapes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.remote.account import asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.remote.account import Account, Resources
    from twolane_local.remote.source import Json


class StackFunctions:
    """What Lambda says of them. Their environment variables are never looked at."""

    def __init__(self, account: Account, resources: Resources) -> None:
        self._account = account
        self.names = {
            resource.physical_id: resource.logical_id
            for resource in resources.of("AWS::Lambda::Function")
        }

    def listed(self) -> list[Json]:
        """``Function`` of each, but for what only the emulator sees of their environments."""
        return [
            function_shape(self._configuration(name), logical_id, self._reserved(name))
            for name, logical_id in sorted(self.names.items())
        ]

    def log_groups(self) -> dict[str, str]:
        """The log group of each function: its own where it names one, else Lambda's default."""
        found = {}
        for name in self.names:
            logging = self._configuration(name).get("LoggingConfig") or {}
            found[name] = str(logging.get("LogGroup") or f"/aws/lambda/{name}")
        return found

    def name_of(self, wanted: str) -> str:
        """The function's name, from its name or logical id. Raises ``LocalError``."""
        for name, logical_id in self.names.items():
            if wanted in {name, logical_id}:
                return name
        known = ", ".join(sorted(self.names.values())) or "none"
        raise LocalError(f"the stack has no function {wanted!r}; it has: {known}")

    def _configuration(self, name: str) -> Mapping[str, Any]:
        with asked(f"function {name}"):
            found: Mapping[str, Any] = self._account.client("lambda").get_function_configuration(
                FunctionName=name
            )
        return found

    def _reserved(self, name: str) -> int | None:
        with asked(f"concurrency of {name}"):
            answer = self._account.client("lambda").get_function_concurrency(FunctionName=name)
        reserved = answer.get("ReservedConcurrentExecutions")
        return None if reserved is None else int(reserved)


def function_shape(configuration: Mapping[str, Any], logical_id: str, reserved: int | None) -> Json:
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


#: Names of GetQueueAttributes by ours; numbers, all of them.
_NUMBERS = {
    "visible": "ApproximateNumberOfMessages",
    "inFlight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
    "visibilityTimeout": "VisibilityTimeout",
    "delaySeconds": "DelaySeconds",
    "retentionSeconds": "MessageRetentionPeriod",
}


class Queues:
    """Reads what SQS and Lambda say of the stack's queues. Depths are approximate, as SQS's are."""

    def __init__(self, account: Account, resources: Resources) -> None:
        self._account = account
        self.urls = {
            resource.physical_id.rpartition("/")[2]: resource.physical_id
            for resource in resources.of("AWS::SQS::Queue")
        }
        #: A queue may be named by its logical id too.
        self._logical = {
            resource.logical_id: resource.physical_id.rpartition("/")[2]
            for resource in resources.of("AWS::SQS::Queue")
        }
        self._stack = resources.stack

    def name_of(self, wanted: str) -> str:
        """The queue's name, from its name or logical id. Raises ``LocalError``."""
        name = self._logical.get(wanted, wanted)
        if name not in self.urls:
            known = ", ".join(sorted(self.urls)) or "none"
            raise LocalError(f"stack {self._stack} has no queue {wanted!r}; it has: {known}")
        return name

    def url(self, wanted: str) -> str:
        return self.urls[self.name_of(wanted)]

    def listed(self) -> list[Json]:
        """``Queue`` of each; how old the oldest message is, and throughput, only metrics know."""
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
        with asked(f"queue {url}"):
            answer = self._account.client("sqs").get_queue_attributes(
                QueueUrl=url, AttributeNames=["All"]
            )
        found: Mapping[str, str] = answer["Attributes"]
        return found

    def _mappings(self, arn: str) -> list[Json]:
        with asked(f"event source mappings of {arn}"):
            pages = self._account.client("lambda").get_paginator("list_event_source_mappings")
            listed = [
                each
                for page in pages.paginate(EventSourceArn=arn)
                for each in page["EventSourceMappings"]
            ]
        return [mapping(each) for each in listed]


def queue_shape(name: str, url: str, attributes: Mapping[str, str]) -> Json:
    """``Queue`` from GetQueueAttributes, with ``deadLetterArn`` in the place of a queue's name.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
    """
    queue: Json = {"name": name, "arn": attributes["QueueArn"], "url": url}
    queue["fifo"] = name.endswith(".fifo")
    queue |= {ours: int(attributes[theirs]) for ours, theirs in _NUMBERS.items()
              if theirs in attributes}  # fmt: skip
    if attributes.get("RedrivePolicy"):
        policy = json.loads(attributes["RedrivePolicy"])
        queue["deadLetterArn"] = policy["deadLetterTargetArn"]
        queue["maxReceiveCount"] = int(policy["maxReceiveCount"])
    return queue


def mapping(each: Mapping[str, Any]) -> Json:
    """One of ``Queue.mappings`` from Lambda's.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """
    return {
        "id": each["UUID"],
        "function": each["FunctionArn"].partition(":function:")[2].partition(":")[0],
        "enabled": each.get("State") in {"Enabled", "Enabling", "Updating", "Creating"},
        "batchSize": each.get("BatchSize"),
        "maximumConcurrency": (each.get("ScalingConfig") or {}).get("MaximumConcurrency"),
    }


def dead_letter_queues(queues: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those that others name as their dead-letter queue."""
    return [queue["name"] for queue in queues if queue.get("deadLetterOf")]


def key_of(task_id: str) -> str:
    """As Celery's DynamoDB backend writes it: its keys are bytes, of which it takes the ``str``."""
    return str(f"celery-task-meta-{task_id}".encode())


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def stored_call(account: Account, resources: Resources, task_id: str) -> Call:
    """Read it. Raises ``LocalError`` where no table of the stack has it, or not all of it.

    Celery stores a task's name and arguments beside its result if ``result_extended`` is set:
    https://docs.celeryq.dev/en/stable/userguide/configuration.html#result-extended
    """
    client = account.client("dynamodb")
    for table in resources.of("AWS::DynamoDB::Table"):
        with asked(f"table {table.physical_id}"):
            keys = client.describe_table(TableName=table.physical_id)["Table"]["KeySchema"]
            if [key["AttributeName"] for key in keys] != ["id"]:
                continue
            item = client.get_item(
                TableName=table.physical_id, Key={"id": {"S": key_of(task_id)}}
            ).get("Item")
        if item is not None:
            return call_of(item, task_id)
    raise LocalError(
        f"no table of stack {resources.stack} has a result of task {task_id}. A stack keeps no "
        "journal: what can be run again is a task by its stored result (whole id, DynamoDB), or a "
        "dead letter (`twolane dlq redrive`)"
    )


def call_of(item: Mapping[str, Any], task_id: str) -> Call:
    """From the item that Celery's DynamoDB backend writes."""
    stored = item["result"]
    meta = json.loads(stored.get("B") or stored.get("S"))
    if not meta.get("name") or meta.get("args") is None:
        raise LocalError(
            f"the result of task {task_id} has not the task's name and arguments: set "
            "result_extended=True in Celery's configuration, or send the task with `twolane send`"
        )
    return Call(meta["name"], tuple(meta["args"]), dict(meta.get("kwargs") or {}))


def listed(account: Account, resources: Resources) -> list[Json]:
    """``Schedule`` of each, but for its next and last times, which EventBridge does not tell."""
    found = _scheduler(account, resources) + _rules(account, resources)
    return sorted(found, key=lambda schedule: str(schedule["name"]))


def beat_function(account: Account, resources: Resources) -> str:
    """The function that a schedule of the stack invokes. Raises ``LocalError`` unless it is one."""
    own = {each.physical_id for each in resources.of("AWS::Lambda::Function")}
    found = sorted({each["target"] for each in listed(account, resources)} & own)
    if len(found) != 1:
        raise LocalError(
            f"stack {resources.stack}: cannot tell which function is beat; name it with --function "
            f"(schedules invoke: {', '.join(found) or 'none'})"
        )
    return str(found[0])


def _scheduler(account: Account, resources: Resources) -> list[Json]:
    names = {each.physical_id for each in resources.of("AWS::Scheduler::Schedule")}
    if not names:
        return []
    client = account.client("scheduler")
    with asked("schedules"):
        pages = client.get_paginator("list_schedules").paginate()
        # Which group a schedule is in, CloudFormation does not say.
        summaries = [each for page in pages for each in page["Schedules"] if each["Name"] in names]
        return [
            of_scheduler(client.get_schedule(Name=each["Name"], GroupName=each["GroupName"]))
            for each in summaries
        ]


def _rules(account: Account, resources: Resources) -> list[Json]:
    rules = resources.of("AWS::Events::Rule")
    if not rules:
        return []
    client = account.client("events")
    found = []
    for each in rules:
        # A rule on a bus of its own is BUS|NAME to CloudFormation.
        bus, _, name = each.physical_id.rpartition("|")
        where = {"EventBusName": bus} if bus else {}
        with asked(f"rule {name}"):
            rule = client.describe_rule(Name=name, **where)
            if rule.get("ScheduleExpression"):
                targets = client.list_targets_by_rule(Rule=name, **where)["Targets"]
                found += [of_rule(rule, target) for target in targets]
    return found


def of_scheduler(schedule: Mapping[str, Any]) -> Json:
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


def of_rule(rule: Mapping[str, Any], target: Mapping[str, Any]) -> Json:
    """https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_DescribeRule.html"""
    return {
        "name": rule["Name"],
        "group": rule.get("EventBusName", "default"),
        "source": "rule",
        "expression": rule["ScheduleExpression"],
        "timezone": "UTC",
        "enabled": rule.get("State") == "ENABLED",
        "target": target["Arn"].rpartition(":")[2],
    }
