"""A stack's queues, in the control API's shapes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.inspect.stack.account import asked

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.inspect.source import Json
    from twolane_local.inspect.stack.account import Account
    from twolane_local.inspect.stack.resources import Resources

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
        found = [shape(name, self.urls[name], values) for name, values in raw.items()]
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


def shape(name: str, url: str, attributes: Mapping[str, str]) -> Json:
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
