from __future__ import annotations

import os
import socket

from twolane.worker.naming import node_name


def test_an_environment_has_its_log_streams_name() -> None:
    environ = {
        "AWS_LAMBDA_FUNCTION_NAME": "worker",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/22/[$LATEST]0123456789abcdef",
    }
    assert node_name(environ) == "celery@worker-0123456789abcdef"


def test_elsewhere_it_is_a_process() -> None:
    assert node_name({}) == f"celery@{socket.gethostname()}-{os.getpid()}"
