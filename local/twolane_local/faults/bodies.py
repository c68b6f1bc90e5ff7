"""What can be wrong with a message's body, as pure functions of the body that was sent."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: What SQS takes, in bytes:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
LIMIT = 1_048_576


#: What reading a body raises that is no task's.
_NO_TASK = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def unknown_task(body: str) -> str:
    """The body, for a task that no worker knows; what is no task stays as it is."""
    try:
        envelope = json.loads(body)
        envelope["headers"]["task"] = "gone.in.this.deploy"
        return json.dumps(envelope)
    except _NO_TASK:
        return body


def _arguments(envelope: Any) -> tuple[Any, bool]:
    """Arguments and what is embedded beside them, and whether they were in base64."""
    encoded = envelope["properties"].get("body_encoding") == "base64"
    text = base64.b64decode(envelope["body"]).decode() if encoded else envelope["body"]
    return json.loads(text), encoded


def has_consequences(body: str) -> bool:
    """Whether a failure of the task has more to do than to be stored: a chord, chain or errback."""
    try:
        (_, _, embed), _ = _arguments(json.loads(body))
    except _NO_TASK:
        return False
    return isinstance(embed, dict) and any(
        embed.get(name) for name in ("chord", "chain", "errbacks")
    )


def changed_signature(body: str) -> str:
    """The body, with an argument that the task does not take; what is no task stays as it is."""
    try:
        envelope = json.loads(body)
        (args, kwargs, embed), encoded = _arguments(envelope)
        text = json.dumps([args, {**kwargs, "an_argument_of_the_next_deploy": 1}, embed])
        envelope["body"] = base64.b64encode(text.encode()).decode() if encoded else text
        return json.dumps(envelope)
    except _NO_TASK:
        return body


def poison(_: str) -> str:
    """No envelope, no JSON."""
    return "\N{SKULL AND CROSSBONES} this is no task"


def truncated(body: str) -> str:
    """The first half."""
    return body[: len(body) // 2]


def at_the_limit(body: str) -> str:
    """The same task in a message of exactly 1 MiB; JSON ignores white space after its end."""
    return body + " " * max(0, LIMIT - len(body.encode()))


#: The fault's name → what it makes of a body.
BODIES: Mapping[str, Callable[[str], str]] = {
    "message.unknown-task": unknown_task,
    "message.changed-signature": changed_signature,
    "message.poison-body": poison,
    "message.truncated": truncated,
    "message.at-the-limit": at_the_limit,
}


def task_id_of(body: str) -> str | None:
    """The id of the task that a body carries; ``None`` where it is none."""
    return _header(body, "id")


def task_name_of(body: str) -> str | None:
    """The name of the task that a body carries; ``None`` where it is none."""
    return _header(body, "task")


def _header(body: str, name: str) -> str | None:
    try:
        envelope: Any = json.loads(body)
        return str(envelope["headers"][name])
    except _NO_TASK:
        return None
