"""The name that an execution environment has as a Celery node."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def node_name(environ: Mapping[str, str]) -> str:
    """``celery@FUNCTION-ENVIRONMENT`` on Lambda, ``celery@HOST-PID`` elsewhere.

    Lambda gives each execution environment a log stream of its own. Its name ends in the
    environment's id, ``DATE/[VERSION]ID``, or ``DATE/FUNCTION[VERSION][ID]`` in a log group of
    one's own: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html

    An environment of Managed Instances has several processes:
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-python-runtime.html
    """
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return f"celery@{socket.gethostname()}-{os.getpid()}"
    stream = environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
    # Every environment has the same few process ids: where it has no id, one is made up.
    place = re.split(r"[\[\]/]", stream.rstrip("]"))[-1] or os.urandom(8).hex()
    process = f"-{os.getpid()}" if environ.get("AWS_LAMBDA_MAX_CONCURRENCY") else ""
    return f"celery@{function}-{place}{process}"
