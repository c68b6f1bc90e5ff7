"""The SQS actions on queues: parameters in, result out, in the shapes of the JSON protocol.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.queues import attributes as attrs
from twolane_local.queues import inputs
from twolane_local.queues.errors import (
    InvalidAttributeNameError,
    InvalidParameterValueError,
    OverLimitError,
    QueueDoesNotExistError,
)
from twolane_local.queues.order import DELAYED, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from twolane_local.queues.core import QueueService
    from twolane_local.queues.inputs import Params

_KNOWN = {
    "All", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds", *attrs.COMPUTED, *attrs.defaults(fifo=True),
}  # fmt: skip


def url_of(queues: QueueService, base: str, name: str) -> str:
    """A queue's URL on this endpoint; ``base`` has no slash at its end."""
    return f"{base}/{queues.account}/{name}"


def create_queue(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    name = inputs.required(params, "QueueName")
    attributes = inputs.strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=name.endswith(".fifo"))
    queues.create(name, attributes, inputs.strings(params, "tags"))
    return {"QueueUrl": url_of(queues, base, name)}


def check_redrive(
    queues: QueueService, name: str, attributes: dict[str, str], *, fifo: bool
) -> None:
    """Refuse a redrive policy whose target is not there, of another kind, or does not allow it.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    policy = attributes.get("RedrivePolicy")
    if not policy:
        return
    target = attrs.check({"RedrivePolicy": policy}, fifo=fifo)["RedrivePolicy"]
    arn = json.loads(target)["deadLetterTargetArn"]
    reason = None
    try:
        dead = queues.get_by_arn(arn)
    except QueueDoesNotExistError:
        reason = "Dead letter target does not exist."
    else:
        if dead.fifo != fifo:
            kind = "FIFO" if fifo else "standard"
            reason = f"The dead-letter queue of a {kind} queue must also be a {kind} queue."
        elif not attrs.permits(dead.attributes.get("RedriveAllowPolicy"), queues.arn(name)):
            reason = "Queue is not allowed as a source by the target's RedriveAllowPolicy."
    if reason:
        raise InvalidParameterValueError(
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}"
        )


def get_queue_url(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    name = inputs.required(params, "QueueName")
    queues.get(name)
    return {"QueueUrl": url_of(queues, base, name)}


def list_queues(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    prefix = str(params.get("QueueNamePrefix") or "")
    names = [name for name in queues.names() if name.startswith(prefix)]
    return _page(queues, params, base, names, "QueueUrls")


def list_dead_letter_source_queues(
    queues: QueueService, params: Params, base: str
) -> dict[str, Any]:
    target = queues.get(inputs.queue_name(params))
    names = [
        name for name in queues.names() if queues.get(name).settings.dead_letter_arn == target.arn
    ]
    # The result's one lower-case member, as the API has it; it is required, hence never left out.
    return {"queueUrls": [], **_page(queues, params, base, names, "queueUrls")}


def _page(
    queues: QueueService, params: Params, base: str, names: list[str], key: str
) -> dict[str, Any]:
    """A page of URLs; the token for the next is the last name given."""
    size = inputs.integer(params, "MaxResults", 1, 1_000)
    after = str(params.get("NextToken") or "")
    names = [name for name in names if name > after]
    shown = names[: size or 1_000]
    page: dict[str, Any] = {}
    if shown:
        page[key] = [url_of(queues, base, name) for name in shown]
    if size is not None and len(names) > size:
        page["NextToken"] = shown[-1]
    return page


def get_queue_attributes(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queue = queues.settled(inputs.queue_name(params))
    wanted = inputs.names(params, "AttributeNames")
    if unknown := wanted - _KNOWN:
        raise InvalidAttributeNameError(f"Unknown Attribute {min(unknown)}.")
    found = {
        "QueueArn": queue.arn,
        "ApproximateNumberOfMessages": str(queue.count(VISIBLE)),
        "ApproximateNumberOfMessagesNotVisible": str(queue.count(IN_FLIGHT)),
        "ApproximateNumberOfMessagesDelayed": str(queue.count(DELAYED)),
        "CreatedTimestamp": str(int(queue.created_at)),
        "LastModifiedTimestamp": str(int(queue.modified_at)),
        **queue.attributes,
    }
    if "All" not in wanted:
        found = {name: value for name, value in found.items() if name in wanted}
    return {"Attributes": found} if found else {}


def set_queue_attributes(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    name = inputs.queue_name(params)
    queue = queues.get(name)
    attributes = inputs.strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=queue.fifo)
    queues.configure(name, attributes)
    return {}


def delete_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.delete_queue(inputs.queue_name(params))
    return {}


def purge_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.purge(inputs.queue_name(params))
    return {}


def list_queue_tags(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    tags = queues.get(inputs.queue_name(params)).tags
    return {"Tags": dict(tags)} if tags else {}


def tag_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    """At most 50 tags, keys to 128 and values to 256 characters.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-tags.html
    """
    name = inputs.queue_name(params)
    tags = inputs.strings(params, "Tags")
    if not tags:
        raise InvalidParameterValueError("The request must contain the parameter Tags.")
    if len({*queues.get(name).tags, *tags}) > 50:
        raise InvalidParameterValueError(f"Too many tags added for queue {name}.")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise InvalidParameterValueError(
            "Tag keys must be between 1 and 128 characters in length, values at most 256."
        )
    queues.tag(name, tags)
    return {}


def untag_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.tag(inputs.queue_name(params), dict.fromkeys(inputs.names(params, "TagKeys")))
    return {}


def add_permission(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    """A statement in the queue's policy; nothing here enforces policies."""
    name = inputs.queue_name(params)
    label = inputs.required(params, "Label")
    actions = sorted(inputs.names(params, "Actions"))
    accounts = sorted(inputs.names(params, "AWSAccountIds"))
    if len(actions) > 7:
        raise OverLimitError(f"{len(actions)} Actions were found, maximum allowed is 7.")
    if not actions or not accounts:
        raise InvalidParameterValueError("Actions and AWSAccountIds must not be empty.")
    queue = queues.get(name)
    policy = _policy(queue.attributes.get("Policy"), queue.arn)
    if label in _labels(policy):
        raise InvalidParameterValueError(
            f"Value {label} for parameter Label is invalid. Reason: Already exists."
        )
    policy["Statement"].append(
        {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam::{account}:root" for account in accounts]},
            "Action": [f"SQS:{action}" for action in actions],
            "Resource": queue.arn,
        }
    )
    queues.configure(name, {"Policy": json.dumps(policy)})
    return {}


def remove_permission(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    name = inputs.queue_name(params)
    label = inputs.required(params, "Label")
    queue = queues.get(name)
    policy = _policy(queue.attributes.get("Policy"), queue.arn)
    if label not in _labels(policy):
        raise InvalidParameterValueError(
            f"Value {label} for parameter Label is invalid. Reason: can't find label on existing "
            "policy."
        )
    statements = policy["Statement"]
    kept = [each for each in statements if not isinstance(each, dict) or each.get("Sid") != label]
    policy["Statement"] = kept
    queues.configure(name, {"Policy": json.dumps(policy) if kept else ""})
    return {}


def _policy(document: str | None, arn: str) -> dict[str, Any]:
    if document:
        parsed: dict[str, Any] = json.loads(document)
        statements = parsed.get("Statement", [])
        # A policy's one statement may stand there without a list around it.
        parsed["Statement"] = [statements] if isinstance(statements, dict) else list(statements)
        return parsed
    return {"Version": "2012-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}


def _labels(policy: dict[str, Any]) -> list[object]:
    return [each.get("Sid") for each in policy["Statement"] if isinstance(each, dict)]
