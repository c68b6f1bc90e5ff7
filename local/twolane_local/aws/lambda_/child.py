"""The main module of an isolated environment's process: refuses real AWS, then runs the handler.

The runtime client is AWS's, or ``plain_client`` if that is not installed. Its log handler is set
before anything of the function is imported, as on Lambda: also in a fork server, which imports a
part of it. An application that configures the root logger replaces that handler, or adds to it, as
it would there.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from twolane_local.aws import real_aws
from twolane_local.aws.lambda_ import mounts, stack_dump, transport
from twolane_local.aws.lambda_.framed_log import CHANNEL, LOG_DESCRIPTOR, Log, log
from twolane_local.aws.lambda_.parent_death import die_with_parent

ALLOW_REAL_AWS = "TWOLANE_ALLOW_REAL_AWS"


def set_up_logging() -> None:
    """Set Lambda's log handler, once for the process."""
    try:
        from awslambdaric import bootstrap
    except ModuleNotFoundError as missing:
        if missing.name != "awslambdaric":
            raise
        from twolane_local.aws.lambda_ import plain_client

        plain_client.set_up_logging()
    else:
        client: Any = bootstrap
        # A client of a function's own Python may lack these: it then sets its handler by itself.
        names = ("_setup_logging", "create_log_sink", "_AWS_LAMBDA_LOG_FORMAT",
                 "_AWS_LAMBDA_LOG_LEVEL")  # fmt: skip
        known = all(hasattr(client, name) for name in names)
        if known and client.create_log_sink is not _log:
            client._setup_logging(  # noqa: SLF001 (what the client's ``run`` calls)
                client._AWS_LAMBDA_LOG_FORMAT,  # noqa: SLF001
                client._AWS_LAMBDA_LOG_LEVEL,  # noqa: SLF001
                log,
            )
            client._setup_logging = lambda *_: None  # noqa: SLF001
            client.create_log_sink = _log
    channel: Any = ModuleType(CHANNEL)
    channel.event = log.event
    sys.modules[CHANNEL] = channel


def _log() -> Log:
    return log


def guard() -> None:
    """Refuse real AWS, unless ``--allow-real-aws`` was given."""
    if os.environ.pop(ALLOW_REAL_AWS, "") != "1":
        real_aws.refuse()


def run(handler: str, *, stock: bool = False) -> None:
    """Run the runtime client; returns only by an exception.

    ``stock`` leaves it as AWS ships it, with its native transport and a thread for each poll.
    """
    stack_dump.enable()
    if not stock:
        sys.modules["runtime_client"] = transport
        set_up_logging()
        log.open(int(os.environ.pop(LOG_DESCRIPTOR)))
    try:
        from awslambdaric import bootstrap
    except ModuleNotFoundError as missing:
        if stock or missing.name != "awslambdaric":
            raise
        from twolane_local.aws.lambda_ import plain_client

        plain_client.run(handler)
        return
    from awslambdaric.lambda_config import LambdaConfigProvider
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    config = LambdaConfigProvider(["bootstrap", handler])
    threads = stock and config.use_thread_polling
    bootstrap.run(config.handler, LambdaRuntimeClient(config.api_address, threads))


def main() -> None:
    """``python -m twolane_local.aws.lambda_.child PARENT_PID HANDLER OPTION``, in the task root.

    The option is ``--channel=`` with the descriptor of a connection to the Runtime API, or
    ``--stock`` for the runtime client as AWS ships it.
    """
    die_with_parent(int(sys.argv[1]))
    guard()
    mounts.play(os.environ.pop(mounts.VARIABLE, None))
    flag, _, channel = sys.argv[3].partition("=")
    if flag == "--channel":
        transport.adopt(int(channel))
    run(sys.argv[2], stock=flag == "--stock")


if __name__ == "__main__":
    main()
