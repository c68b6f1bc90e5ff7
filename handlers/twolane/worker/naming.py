"""The name that an execution environment has as a Celery node."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def node_name(environ: Mapping[str, str]) -> str:
    """``celery@FUNCTION-ENVIRONMENT`` on Lambda, ``celery@HOST-PID`` elsewhere.

    Lambda gives each execution environment a log stream of its own, whose name ends in a digest:
    https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
    """
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    stream = environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "").rpartition("]")[2]
    place = function or socket.gethostname()
    return f"celery@{place}-{stream or os.getpid()}"
