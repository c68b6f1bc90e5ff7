"""Refuses connections to real AWS by name, for functions and for the emulator itself.

An audit hook sees every call of the socket module, from any library:
https://docs.python.org/3/library/audit_events.html. It does not see resolvers in C that bypass
that module (uvloop's, c-ares), nor programs that are not Python: those find no credentials.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: As in ``twolane.publish.transport``, which must not be imported here: this module runs in
#: every function's process, before the function's code.
_DOMAINS = (
    "amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "c2s.ic.gov", "sc2s.sgov.gov",
    "cloud.adc-e.uk", "csp.hci.ic.gov", "api.aws", "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu", "api.aws.ic.gov", "api.aws.scloud", "api.cloud-aws.adc-e.uk",
    "api.aws.hci.ic.gov",
)  # fmt: skip
_SUFFIXES = (".aws.dev", ".on.aws", *(f".{domain}" for domain in _DOMAINS))
#: The metadata services: link-local addresses, IPv4 and IPv6.
_METADATA = ("169.254.", "fe80:", "fd00:ec2::")

_hooked = False
_refusing = 0


def is_aws_host(host: str) -> bool:
    """True for a host of real AWS and for its metadata service."""
    name = host.rstrip(".").lower()
    return name.endswith(_SUFFIXES) or name.startswith(_METADATA)


def refuse() -> None:
    """Refuse real AWS from now until this process ends."""
    global _hooked, _refusing  # noqa: PLW0603 (one for the process)
    _refusing += 1
    if not _hooked:
        _hooked = True
        sys.addaudithook(_hook)  # cannot be removed: hence the counter


@contextmanager
def refused() -> Iterator[None]:
    """Refuse real AWS within the block; blocks may overlap."""
    global _refusing  # noqa: PLW0603 (one for the process)
    refuse()
    try:
        yield
    finally:
        _refusing -= 1


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _refusing:
        return
    if event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = arguments[0]
    elif event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else None
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if isinstance(host, str) and is_aws_host(host):
        raise ConnectionRefusedError(
            f"twolane refused a connection to real AWS ({host}): locally every AWS call goes "
            "to AWS_ENDPOINT_URL; start with --allow-real-aws to permit it"
        )
