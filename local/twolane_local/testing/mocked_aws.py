"""AWS in this process: our queues, functions and schedules, moto for all else, and nothing real.

boto3's calls are answered where moto answers them, before they are sent; those of twolane's own
publisher at its one connection. Neither opens a socket. What a template leaves to moto is made when
something asks for it, as few tests do, and what moto works out anew for each test or call and is
always the same is worked out once.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import socket
import uuid
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urlsplit

from twolane_local.aws import guard, real_aws
from twolane_local.aws.call import AwsRequest, AwsResponse
from twolane_local.aws.endpoint import polls, service_of
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.moto.dynamodb import one_request_at_a_time
from twolane_local.clock.threads import current
from twolane_local.errors import LocalError
from twolane_local.model import ACCOUNT, REGION
from twolane_local.template.names import NAME_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.lambda_.api import LambdaApi
    from twolane_local.faults.injection import Faults
    from twolane_local.testing.stores import Listener


#: Where the queues are: as on AWS, so that boto3, moto and kombu need no endpoint of ours.
SQS_URL = f"https://sqs.{REGION}.amazonaws.com"


#: Scheduler's calls have no target; the publisher makes this one only.
_SCHEDULES = "CreateSchedule"


class RealAwsError(LocalError):
    """A test tried to reach real AWS; name the resource in the template, or mock it."""


class LocalAws:
    """Answers calls synchronously, from any thread of the process."""

    def __init__(
        self,
        services: Mapping[str, AwsService],
        functions: LambdaApi,
        run: Callable[[Coroutine[Any, Any, AwsResponse]], AwsResponse],
        faults: Faults,
        listener: Listener,
    ) -> None:
        """``run`` drives a coroutine on the loop for threads that are not a handler's."""
        self._services, self._functions, self._run = services, functions, run
        self._faults, self._listener = faults, listener

    def answer(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> AwsResponse | None:
        """The answer, or ``None`` where the call is not for one of our services."""
        parts = urlsplit(url)
        path = parts.path or "/"
        service, region = service_of({"host": parts.netloc, **headers}, path, parts.query)
        answering = self._services.get(service)
        waits = False
        if service == "lambda" and self._functions.answers(method, path, parts.query):
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

    def light(self, host: str, path: str, headers: Mapping[str, str], body: bytes) -> AwsResponse:
        """Answer a call of twolane's own publisher; a broken connection is an ``OSError``."""
        url = f"https://{host}{path}"
        action = headers.get("x-amz-target", "").rpartition(".")[2] or _SCHEDULES
        schedules = action == _SCHEDULES
        if schedules and self._faults.at("schedule", action):
            raise ConnectionResetError("Connection reset by peer")
        answer = self.answer("POST", url, headers, body)
        if answer is None:
            raise RealAwsError(f"POST {url} would be sent for real")
        if answer.status < 300:
            self._listener.called(action)
        if schedules and self._faults.at("schedule.done", action):
            raise TimeoutError("timed out")
        return answer


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
    """moto's mocks with ours in front; dummy credentials; real AWS out of reach. ``template`` is
    what moto creates once something asks for it; ``tables`` stands before moto's answers.
    """
    from moto.core.models import botocore_stubber

    stock = botocore_stubber.process_request
    creation = Creation(template)

    def process_request(request: Any) -> Any:
        headers = {
            name.lower(): (value.decode("latin-1") if isinstance(value, bytes) else str(value))
            for name, value in request.headers.items()
        }
        answer = local.answer(request.method, request.url, headers, _bytes(request.body))
        if answer is None:
            creation.before(service_of(headers, "", "")[0])
            return tables(request, stock)
        return answer.status, dict(answer.headers), answer.body

    with ExitStack() as undo:
        undo.enter_context(mock.patch.dict(os.environ))
        guard.protect_own_process()
        undo.enter_context(moto_mocks())
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
    from twolane.publish.client import Response, Wire

    def post(
        wire: Any, headers: Mapping[str, str], body: bytes, *, timeout_s: float, path: str = "/"
    ) -> Response:
        del timeout_s
        endpoint = wire._endpoint  # noqa: SLF001 - we stand for the connection
        answer = local.light(endpoint.host, path, headers, body)
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


#: moto's classes of what most templates hold. Its CloudFormation imports half of moto, and reads
#: a template as YAML, which takes longer than most tests.
_DIRECT = {
    "AWS::DynamoDB::Table": ("moto.dynamodb.models.table", "Table"),
    "AWS::S3::Bucket": ("moto.s3.models", "FakeBucket"),
    "AWS::SNS::Topic": ("moto.sns.models", "Topic"),
}


class Creation:
    """Asked before each call that moto answers."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        """``template`` is a stack's ``moto_template``."""
        self._rest: dict[str, Any] = dict(template)
        self._senders = self._rest.pop("Identities", [])
        self._missing = True

    def before(self, service: str) -> None:
        """Have moto create what a call to the service may meet, such as mail's senders."""
        if self._senders:
            from twolane_local.aws.moto.child import verify_senders

            senders, self._senders = self._senders, []
            verify_senders(senders)
        if self._missing and service != "ses":
            self._missing = False
            _create(self._rest)


def _create(template: Mapping[str, Any]) -> None:
    """Have moto create what the template leaves to it."""
    from moto.kms import models

    from twolane_local.aws.moto import child

    wanted = json.loads(json.dumps(template, default=str))
    # The queues are ours, here as in name.
    wanted["Resources"] = {
        name: resource
        for name, resource in wanted["Resources"].items()
        if resource["Type"] != "AWS::SQS::Queue"
    }
    for resource in wanted["Resources"].values():
        kept = [name for name in resource.get("DependsOn", ()) if name in wanted["Resources"]]
        resource["DependsOn"] = kept
    # A table has a key of its own, and an RSA key takes longer to find than most tests take.
    with mock.patch.object(models, "generate_private_key", _private_key):
        if all(resource["Type"] in _DIRECT for resource in wanted["Resources"].values()):
            # By the methods that moto's CloudFormation calls.
            for resource in wanted.pop("Resources").values():
                module, kind = _DIRECT[resource["Type"]]
                made = getattr(importlib.import_module(module), kind)
                name = resource["Properties"][NAME_PROPERTY[resource["Type"]]]
                made.create_from_cloudformation_json(name, resource, ACCOUNT, REGION)
            wanted["Resources"] = {}
        child.create("local", wanted)
    # moto's CloudFormation passes over a table's time to live.
    for resource in template["Resources"].values():
        properties = resource.get("Properties") or {}
        if "TimeToLiveSpecification" in properties:
            from moto.dynamodb.models import dynamodb_backends

            dynamodb_backends[ACCOUNT][REGION].update_time_to_live(
                properties["TableName"], properties["TimeToLiveSpecification"]
            )


@cache
def _private_key(spec: str) -> Any:
    from moto.kms.utils import generate_private_key

    return generate_private_key(spec)


@contextmanager
def moto_mocks() -> Iterator[None]:
    """``mock_aws``, without making its thousand patterns for each test anew."""
    from moto import mock_aws
    from moto.core import base_backend, models, responses
    from moto.core.base_backend import AccountSpecificBackend, BaseBackend

    mocks = mock_aws()
    with mock.patch.object(models, "backend_index", _NoPatterns()) as index:
        mocks.start()
    with (
        mock.patch.object(AccountSpecificBackend, "_generate_regions", _regions()),
        mock.patch.object(BaseBackend, "urls", _urls()),
        mock.patch.object(responses, "method_names_from_class", _method_names()),
        # moto knows its services apart, and which of them it has cleared, by these; a seed would
        # give one of this test the id of one of another.
        mock.patch.object(base_backend, "uuid4", _true_uuid4),
    ):
        try:
            if index.asked:
                from moto.core import models

                registry: Any = models.responses_mock._registry  # noqa: SLF001 - moto's own
                for method, answers in _answers().items():
                    registry._registered[method][:0] = answers  # noqa: SLF001 - where its ``add`` puts them
            yield
        finally:
            mocks.stop()


@cache
def _regions() -> Callable[[Any, str], list[str]]:
    from moto.core.base_backend import AccountSpecificBackend

    stock: Any = AccountSpecificBackend._generate_regions  # noqa: SLF001 - beneath its own cache
    found: Callable[[str], list[str]] = cache(functools.partial(stock.__wrapped__, None))
    return lambda _, service: found(service)


@cache
def _urls() -> Any:
    """A service's patterns, each with what answers; they are its module's."""
    from moto.core.base_backend import BaseBackend

    stock: Any = BaseBackend.urls
    found: dict[type[BaseBackend], Any] = {}

    def urls(backend: BaseBackend) -> Any:
        of = type(backend)
        if of not in found:
            found[of] = stock.fget(backend)
        return found[of]

    return property(urls)


@cache
def _method_names() -> Any:
    from moto.core import utils

    names: Any = cache(utils.method_names_from_class)
    return names


def _true_uuid4() -> uuid.UUID:
    return uuid.UUID(bytes=os.urandom(16), version=4)


class _NoPatterns:
    """In place of moto's index. Mocks within others, and those of a server, do not ask for it."""

    asked = False

    @property
    def backend_url_patterns(self) -> tuple[()]:
        self.asked = True
        return ()


@cache
def _answers() -> dict[str, list[Any]]:
    """What moto answers through ``requests`` and the like, for each HTTP method."""
    from moto import backend_index
    from moto.core.custom_responses_mock import CallbackResponse
    from moto.core.models import RESPONSES_METHODS, botocore_stubber

    answer = botocore_stubber.process_prepared_request
    return {
        method: [
            CallbackResponse(method=method, url=pattern, callback=answer)
            for _, pattern in backend_index.backend_url_patterns
        ]
        for method in RESPONSES_METHODS
    }
