"""An AWS API call and its response as the local services see them, without a web framework."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class AwsRequest:
    """``path`` as sent, still percent-encoded; ``headers`` by lower-case name; ``service`` and
    ``region`` from the SigV4 credential scope, empty for an unsigned call; ``account`` from the
    access key, if that is an account's number.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    service: str = ""
    region: str = "us-east-1"
    request_id: str = ""
    account: str = ACCOUNT


@dataclass(frozen=True, slots=True)
class AwsResponse:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The rest of the body, after ``body``.
    stream: AsyncIterator[bytes] | None = None
    #: The stream goes on until the client closes the connection.
    endless: bool = False


def trace_header(headers: Mapping[str, str]) -> str | None:
    """The X-Ray trace header of a request; SDKs send one from within a function.

    botocore percent-encodes it (``add_recursion_detection_header``).
    """
    given = headers.get("x-amzn-trace-id")
    return unquote(given) if given else None


#: ``AwsEndpoint`` selects one by the service's name in the credential scope.
AwsService = Callable[[AwsRequest], Coroutine[Any, Any, AwsResponse]]
