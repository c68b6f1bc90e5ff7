"""Runs inside an isolated environment's process: guards it, then hands over to the runtime client.

A script, not a module of the package: the process sees the function's paths, not the emulator's.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import sys


def die_with_parent(parent: int) -> None:
    """As in ``leash.py``, which cannot be imported from here."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


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
        try:
            return ipaddress.ip_address(name.partition("%")[0]).is_link_local
        except ValueError:
            return False

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


def main() -> None:
    """``child.py PARENT_PID HANDLER``."""
    die_with_parent(int(sys.argv[1]))
    if os.environ.pop("TWOLANE_ALLOW_REAL_AWS", "") != "1":
        refuse_real_aws()
    # The script's own folder is no part of the function's path.
    sys.path[0] = os.getcwd()  # noqa: PTH109 (pathlib would cost the cold start 5 ms)
    sys.argv = ["bootstrap", sys.argv[2]]
    from awslambdaric.__main__ import main as bootstrap

    bootstrap(sys.argv)


if __name__ == "__main__":
    main()
