from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane_local.errors import LocalError
from twolane_local.remote.resources import StoredCall, call_of, read_resources, stored_call

if TYPE_CHECKING:
    from twolane_local.remote.account import Account


def test_a_call_from_a_result_that_celery_stored(account: Account, stack: str) -> None:
    """The item is written by Celery's own backend, not by hand."""
    app = Celery("shop", set_as_current=False)
    app.conf.update(result_extended=True, result_serializer="json")
    app.conf.result_backend = "dynamodb://@us-east-1/shop-results"
    app.conf.dynamodb_endpoint_url = account.client("dynamodb").meta.endpoint_url
    backend: Any = app.backend
    context = type(
        "Context", (), {"task": "send", "args": ["a"], "kwargs": {"times": 2}, "group": None,
                        "parent_id": None, "children": [], "hostname": "h", "retries": 0,
                        "delivery_info": {"routing_key": "q"}},
    )  # fmt: skip
    backend.store_result("task-1", 42, "SUCCESS", request=context())
    found = read_resources(account, stack)
    assert stored_call(account, found, "task-1") == StoredCall("send", ("a",), {"times": 2})
    with pytest.raises(LocalError, match="no table of stack shop has a result of task task-2"):
        stored_call(account, found, "task-2")


def test_a_result_without_arguments_says_what_to_set() -> None:
    item = {"result": {"B": json.dumps({"status": "SUCCESS", "result": 1}).encode()}}
    with pytest.raises(LocalError, match="result_extended=True"):
        call_of(item, "task-1")
