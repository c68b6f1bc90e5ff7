"""What a task was called with, from the result that Celery stored in a table of the stack."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.inspect.stack.account import asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.inspect.stack.account import Account
    from twolane_local.inspect.stack.resources import Resources


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
