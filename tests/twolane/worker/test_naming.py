from __future__ import annotations

import os
import socket

import pytest

from twolane.worker.handler import node_name


@pytest.mark.parametrize(
    "stream",
    [
        "2026/11/22/[$LATEST]0123456789abcdef",
        "2026/11/22/[42]0123456789abcdef",
        # A log group of one's own: the function's name is part of the stream's.
        "2026/11/22/worker[$LATEST][0123456789abcdef]",
        "2026/11/22/worker[42][0123456789abcdef]",
    ],
)
def test_an_environment_has_its_log_streams_name(stream: str) -> None:
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "worker", "AWS_LAMBDA_LOG_STREAM_NAME": stream}
    assert node_name(environ) == "celery@worker-0123456789abcdef"


def test_processes_of_one_environment_are_told_apart() -> None:
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "worker",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/22/[$LATEST]0123456789abcdef",
        "AWS_LAMBDA_MAX_CONCURRENCY": "16",
    }
    assert node_name(environ) == f"celery@worker-0123456789abcdef-{os.getpid()}"


def test_environments_without_a_log_stream_are_told_apart() -> None:
    environ = {"AWS_LAMBDA_FUNCTION_NAME": "worker"}
    assert node_name(environ) != node_name(environ)


def test_elsewhere_it_is_a_process() -> None:
    assert node_name({}) == f"celery@{socket.gethostname()}-{os.getpid()}"
