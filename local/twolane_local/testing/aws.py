"""AWS in this process: our queues, functions and schedules, moto for all else, and nothing real.

boto3's calls are answered where moto answers them, before they are sent; those of twolane's own
publisher at its one connection. Neither opens a socket.
"""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

from twolane_local.aws import guard, real_aws
from twolane_local.aws.call import AwsRequest, AwsResponse
from twolane_local.aws.endpoint import polls, service_of
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.moto.dynamodb import one_request_at_a_time
from twolane_local.errors import LocalError
from twolane_local.model import REGION
from twolane_local.testing import mocks
from twolane_local.testing.creation import Creation
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.lambda_.api import LambdaApi

#: Where the queues are: as on AWS, so that boto3, moto and kombu need no endpoint of ours.
SQS_URL = f"https://sqs.{REGION}.amazonaws.com"


class RealAwsError(LocalError):
    """A test tried to reach real AWS; name the resource in the template, or mock it."""


class LocalAws:
    """Answers calls synchronously, from any thread of the process."""

    def __init__(
        self,
        services: Mapping[str, AwsService],
        functions: LambdaApi,
        run: Callable[[Coroutine[Any, Any, AwsResponse]], AwsResponse],
    ) -> None:
        """``run`` drives a coroutine on the loop for whoever is no handler."""
        self._services, self._functions, self._run = services, functions, run

    def answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> AwsResponse | None:
        """The answer, or ``None`` where the call is not for one of our services."""
        parts = urlsplit(url)
        path = parts.path or "/"
        service, region = service_of({"host": parts.netloc, **headers}, path, parts.query)
        answering = self._services.get(service)
        waits = False
        if service == "lambda" and self._functions.answers(method, path):
            answering, waits = self._functions, True
        if answering is None:
            return None
        process = current.get()
        if process is not None:
            process.check()
        request = AwsRequest(
            method, path, parts.query, {"host": parts.netloc, **headers}, body, service,
            region, new_request_id(),
        )  # fmt: skip
        work = answering(request)
        if not waits and not polls(request):
            return at_once(work)
        return process.call(work) if process is not None else self._run(work)


def at_once(work: Coroutine[Any, Any, AwsResponse]) -> AwsResponse:
    """What a coroutine returns that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as stopped:
        response: AwsResponse = stopped.value
        return response
    work.close()
    raise RuntimeError("the call has to wait")


@contextmanager
def mocked(
    local: LocalAws,
    template: Mapping[str, Any],
    tables: Callable[[Any, Callable[[Any], Any]], Any] = lambda request, answer: answer(request),
) -> Iterator[None]:
    """moto's mocks with ours in front; dummy credentials; real AWS out of reach.

    ``template`` is what moto is to create, once something asks moto for the first time; ``tables``
    stands between a call and moto's answer.
    """
    from moto.core.models import botocore_stubber

    stock = botocore_stubber.process_request
    creation = Creation(template)

    def process_request(request: Any) -> Any:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        answer = local.answer(request.method, request.url, headers, _bytes(request.body))
        if answer is None:
            creation.before(service_of(headers, "", "")[0])
            return tables(request, stock)
        return answer.status, dict(answer.headers), answer.body

    with ExitStack() as undo:
        undo.enter_context(mock.patch.dict(os.environ))
        guard.protect_own_process()
        undo.enter_context(mocks.moto())
        undo.enter_context(one_request_at_a_time())
        os.environ.update(guard.DUMMY_CREDENTIALS)
        undo.enter_context(mock.patch.object(botocore_stubber, "process_request", process_request))
        undo.enter_context(_clients_without_hook(botocore_stubber))
        undo.enter_context(_light_path(local))
        undo.enter_context(_refused())
        yield


def _clients_without_hook(stubber: Any) -> Any:
    """boto3 clients that were made before moto was imported send past its hook."""
    from botocore.httpsession import URLLib3Session

    def send(_: Any, request: Any) -> Any:
        answer = stubber("before-send", request)
        if answer is None:
            raise RealAwsError(f"{request.method} {request.url} would be sent for real")
        return answer

    return mock.patch.object(URLLib3Session, "send", send)


def _light_path(local: LocalAws) -> Any:
    """twolane's publisher, which does not use boto3."""
    from twolane.publish.connection import Response, Wire

    def post(
        wire: Any, headers: Mapping[str, str], body: bytes, *, timeout_s: float, path: str = "/"
    ) -> Response:
        del timeout_s
        endpoint = wire._endpoint  # noqa: SLF001 - we stand for the connection
        url = f"https://{endpoint.host}{path}"
        answer = local.answer("POST", url, dict(headers), body)
        if answer is None:
            raise RealAwsError(f"POST {url} would be sent for real")
        return Response(answer.status, answer.body, reusable=True)

    return mock.patch.object(Wire, "post", post)


def _refused() -> Any:
    """Names of AWS hosts are not looked up: whatever else sends to them fails here."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and real_aws.is_aws_host(name):
            raise RealAwsError(f"{name} is real AWS")
        return real(host, *args, **options)

    return mock.patch.object(socket, "getaddrinfo", getaddrinfo)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if hasattr(body, "read"):
        read: bytes = body.read()
        body.seek(0)
        return read
    return bytes(body)
