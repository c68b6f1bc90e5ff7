"""Runs in an isolated environment's process: guards it, then hands over to the runtime client."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Self

from twolane_local.leash import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse_real_aws() -> None:
    """Refuse, by name, to resolve an AWS host or to reach the metadata service.

    An audit hook sees every caller of the socket module, whatever library made the call.
    """
    suffixes = (".amazonaws.com", ".amazonaws.com.cn", ".aws.dev", ".api.aws", ".on.aws")

    def is_aws(host: object) -> bool:
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if not isinstance(host, str):
            return False
        name = host.rstrip(".").lower()
        if name.endswith(suffixes):
            return True
        # The metadata services: link-local addresses, IPv4 and IPv6.
        return name.startswith(("169.254.", "fe80:", "fd00:ec2::"))

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in {"socket.getaddrinfo", "socket.gethostbyname"}:
            host = arguments[0]
        elif event == "socket.connect":
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) else None
        else:
            return
        if is_aws(host):
            raise ConnectionRefusedError(
                f"twolane refused a connection to real AWS ({host!s}): locally every AWS call goes "
                "to AWS_ENDPOINT_URL; start with --allow-real-aws to permit it"
            )

    sys.addaudithook(hook)


class KeptPoller:
    """Stands in for the executor that the runtime client makes for every single ``next``.

    The client polls on a thread of its own so that signal handlers run while it waits; making and
    joining that thread takes longer than the rest of an invocation. This one is kept.
    """

    def __init__(self, max_workers: int) -> None:
        """Its signature is the executor's."""

    def __enter__(self) -> Self:
        if _poller is None:
            start_poller()
        return self

    def __exit__(self, *_: object) -> None:
        """The thread stays."""

    def submit(self, call: Callable[[], object]) -> KeptPoller:
        """Run the call on the thread; this is its own future."""
        _calls.put(call)
        return self

    def result(self) -> object:
        """Wait for the call; signal handlers run meanwhile."""
        value, error = _results.get()
        if error is not None:
            raise error
        return value


_calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
_results: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
_poller: threading.Thread | None = None


def start_poller() -> None:
    """A daemon: it waits in C code most of its life, and must not hold up the end."""

    def poll() -> None:
        while True:
            call = _calls.get()
            try:
                _results.put((call(), None))
            except BaseException as error:  # noqa: BLE001 (raised on the waiting thread)
                _results.put((None, error))

    global _poller  # noqa: PLW0603 (one for the process)
    _poller = threading.Thread(target=poll, name="next", daemon=True)
    _poller.start()


def guard() -> None:
    """Keep real AWS out of reach, unless a flag of the command allowed it."""
    if os.environ.pop("TWOLANE_ALLOW_REAL_AWS", "") != "1":
        refuse_real_aws()


def run(handler: str) -> None:
    """Hand over to the runtime client; returns only by an exception."""
    from awslambdaric import bootstrap
    from awslambdaric.lambda_config import LambdaConfigProvider
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    config = LambdaConfigProvider(["bootstrap", handler])
    client = LambdaRuntimeClient(config.api_address, config.use_thread_polling)
    client.ThreadPoolExecutor = KeptPoller
    bootstrap.run(config.handler, client)


def main() -> None:
    """``python -m twolane_local.environments.child PARENT_PID HANDLER``, in the task root."""
    die_with_parent(int(sys.argv[1]))
    guard()
    run(sys.argv[2])


if __name__ == "__main__":
    main()
