"""Queues on a clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.service import QueueService

if TYPE_CHECKING:
    from twolane_local.journal import Journal

    from ..conftest import HandClock  # noqa: TID252


@pytest.fixture
def queues(clock: HandClock, journal: Journal) -> QueueService:
    return QueueService(clock, journal, rng=random.Random(7))


@pytest.fixture
def call(queues):
    """An SQS call in the JSON protocol: its answer, or, with a status, error and response."""
    api = SqsApi(queues)

    def call(action, status=200, **params):
        request = AwsRequest(
            "POST", "/", "",
            {"x-amz-target": f"AmazonSQS.{action}", "host": "127.0.0.1:4566"},
            json.dumps(params).encode(), "sqs",
        )  # fmt: skip
        response = asyncio.run(api(request))
        assert response.status == status, response.body
        assert response.headers["content-type"] == "application/x-amz-json-1.0"
        return json.loads(response.body) if status == 200 else (json.loads(response.body), response)

    return call
