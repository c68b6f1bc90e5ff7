"""How long a call may take; what comes of it is in ``worker/test_silent_store.py``."""

from __future__ import annotations

import socket
import time

import boto3
import pytest
import redis
from botocore.exceptions import BotoCoreError

from twolane.environment.invocation import LEAST_S, LONGEST_S, left_s, limit_s, within
from twolane.patches.clients import patient_boto, patient_redis


def test_nobody_says_how_much_time_there_is() -> None:
    assert (left_s(), limit_s()) == (None, None)


def test_a_call_gets_half_of_what_is_left_and_no_more_than_the_longest() -> None:
    with within(4.0):
        assert left_s() == pytest.approx(4.0, abs=0.2)
        assert limit_s() == pytest.approx(2.0, abs=0.1)
        assert limit_s(0.5) == 0.5
    with within(100.0):
        assert limit_s() == LONGEST_S
    with within(0.0):
        assert limit_s() == LEAST_S


def test_clients_of_both_stores_wait_no_longer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the system takes connections for it
        port = silent.getsockname()[1]
        table = patient_boto(
            boto3.client(
                "dynamodb", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
                aws_access_key_id="test", aws_secret_access_key="test",
            )
        )  # fmt: skip
        client = patient_redis(redis.Redis.from_url(f"redis://127.0.0.1:{port}"))
        began = time.monotonic()
        with within(0.6):
            with pytest.raises(BotoCoreError) as told:
                table.list_tables()
            assert isinstance(told.value, TimeoutError), "the store is down, not the task"
            with pytest.raises(redis.TimeoutError):
                client.get("a")
        assert time.monotonic() - began < 2.0
        table.close()
        client.close()
