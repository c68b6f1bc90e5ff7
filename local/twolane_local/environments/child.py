"""Runs in an isolated environment's process: guards it, then hands over to the runtime client."""

from __future__ import annotations

import os
import sys

from twolane_local.environments import transport
from twolane_local.leash import die_with_parent


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


def guard() -> None:
    """Keep real AWS out of reach, unless a flag of the command allowed it."""
    if os.environ.pop("TWOLANE_ALLOW_REAL_AWS", "") != "1":
        refuse_real_aws()


def run(handler: str, *, stock: bool = False) -> None:
    """Hand over to the runtime client; returns only by an exception.

    ``stock`` leaves it as AWS ships it, with its native transport and its thread for each poll.
    """
    if not stock:
        sys.modules["runtime_client"] = transport
    from awslambdaric import bootstrap
    from awslambdaric.lambda_config import LambdaConfigProvider
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    config = LambdaConfigProvider(["bootstrap", handler])
    threads = stock and config.use_thread_polling
    bootstrap.run(config.handler, LambdaRuntimeClient(config.api_address, threads))


def main() -> None:
    """``python -m twolane_local.environments.child PARENT_PID HANDLER``, in the task root.

    Behind them stands ``--channel=`` with the descriptor of a connection to the Runtime API, or
    ``--stock``, which asks for the runtime client as it is.
    """
    die_with_parent(int(sys.argv[1]))
    guard()
    flag, _, channel = sys.argv[3].partition("=")
    if flag == "--channel":
        transport.adopt(int(channel))
    run(sys.argv[2], stock=flag == "--stock")


if __name__ == "__main__":
    main()
