"""Clients of redis-py and boto3 with a limit for each call, and the errors of the result store.

**Limits.** No call takes longer than the invocation has time. Neither client has a limit for a
single call that can change from one call to the next, so the place where each reads its limit is
replaced; see ``environment.invocation``. kombu's channel to SQS gets such clients too.

**Errors.** Celery's tracer takes an error of its own (the result cannot be stored) for a failure of
the task, and records that as soon as the store answers again. The task has not failed, it may not
even have begun: its message goes back. Nothing else does that once the task's body has ended. So an
error of the store must be told from one of a hook, an errback or a publisher, which may be of the
same class: the application may well use the same Redis, and every library raises ``OSError``. The
class does not show it, the place does: ``guard`` stands where Celery calls the store.
"""

from __future__ import annotations

import functools
import os
import sys
from contextlib import contextmanager
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any

from twolane.environment.invocation import LONGEST_S, left_s, limit_s
from twolane.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: boto3 waits up to so long, in seconds, between two attempts.
_BACKOFF_S = 3.0

_SILENT = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})

#: A long poll of SQS waits for a message, up to 20 seconds; that is no silence.
_POLL_S = 25.0
_POLLS = frozenset({"AmazonSQS.ReceiveMessage", b"AmazonSQS.ReceiveMessage"})


def patient_redis(client: Any, *, longest: float = LONGEST_S) -> Any:
    """Limit each call of a client to the time that there is, and to ``longest``; returns it."""
    pool: Any = client.connection_pool
    pool.connection_class = _patient(pool.connection_class, longest)
    return client


def connection_of(pool: Any) -> Any:
    """A connection of redis-py's pool. Before 5.3 it wants a command's name, of which newer ones
    warn, and has no use for it.
    """
    from redis import VERSION

    return pool.get_connection("_") if VERSION < (5, 3) else pool.get_connection()


def impatient_redis(client: Any) -> Any:
    """For a client of redis-py's own making: one more attempt, at once. From version 6 on, it would
    sleep for seconds, whatever time is left, also where nothing was answered.
    """
    from redis.backoff import NoBackoff
    from redis.exceptions import ConnectionError as LostConnectionError
    from redis.retry import Retry

    lost: Any = (LostConnectionError,)
    client.set_retry(Retry(NoBackoff(), 1, supported_errors=lost))
    return patient_redis(client)


@functools.cache
def _patient(kind: Any, longest: float) -> Any:
    class Patient(kind):  # type: ignore[misc]
        """Asks for its limits when it needs them: a connection outlives many invocations."""

        @property
        def socket_timeout(self) -> float | None:
            limit = limit_s(longest)
            return self._socket_timeout if limit is None else limit

        @socket_timeout.setter
        def socket_timeout(self, value: float | None) -> None:
            self._socket_timeout = value

        @property
        def socket_connect_timeout(self) -> float | None:
            limit = limit_s(longest)
            return self._socket_connect_timeout if limit is None else limit

        @socket_connect_timeout.setter
        def socket_connect_timeout(self, value: float | None) -> None:
            self._socket_connect_timeout = value

        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            # The reply's limit, too: a read without one of its own takes the socket's.
            sock, limit = self._sock, self.socket_timeout
            if sock is not None and sock.gettimeout() != limit:  # setting it is a system call
                sock.settimeout(limit)
            super().send_packed_command(command, check_health)

    Patient.__name__ = Patient.__qualname__ = kind.__name__
    return Patient


def patient_boto(client: Any, *, longest: float = LONGEST_S) -> Any:
    """Give each request of a boto3 client the time that there is; returns the client.

    A service that has said nothing in that time is not asked again by the same call; for errors
    that it tells, boto3's retries stay, as long as there is time for them. ``longest``: what the
    application has set for one answer, if anything.
    """
    from botocore import httpsession
    from botocore.exceptions import BotoCoreError, HTTPClientError

    class SilentServiceError(BotoCoreError, TimeoutError):
        fmt = "{why}"

    # botocore has no limit for one request. What is mocked (by moto, say) never comes here.
    urllib3: Any = httpsession
    session = client._endpoint.http_session  # noqa: SLF001
    stock = session.send

    def send(request: Any) -> Any:
        polls = request.headers.get("X-Amz-Target") in _POLLS
        limit = limit_s(max(longest, _POLL_S) if polls else longest)
        if limit is None:
            return stock(request)
        proxy = session._proxy_config.proxy_url_for(request.url)  # noqa: SLF001 - as ``send`` does
        manager = session._get_connection_manager(request.url, proxy)  # noqa: SLF001
        pool = manager.connection_from_url(request.url)
        own, pool.timeout = pool.timeout, urllib3.Timeout(total=limit)
        try:
            response = stock(request)
        except HTTPClientError as error:
            if type(error).__name__ in _SILENT or (left_s() or 0.0) < _BACKOFF_S:
                raise SilentServiceError(why=str(error)) from error
            raise
        finally:
            pool.timeout = own
        if response.status_code >= 500 and (left_s() or 0.0) < _BACKOFF_S:
            raise SilentServiceError(why=f"{request.url} answered {response.status_code}")
        return response

    session.send = send
    return client


def patient_channel(channel: Any) -> Any:
    """kombu's SQS channel, with clients that take no longer than the invocation has time."""

    class Patient(channel):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            # Before kombu 5.7, all channels of the process share one, whose clients nobody closes.
            if isinstance(channel._predefined_queue_clients, dict):  # noqa: SLF001
                self._predefined_queue_clients: dict[str, Any] = {}
            super().__init__(*args, **options)

        def new_sqs_client(self, *args: Any, **options: Any) -> Any:
            own = (self.transport_options.get("client-config") or {}).get("read_timeout")
            client = super().new_sqs_client(*args, **options)
            return patient_boto(client, longest=LONGEST_S if own is None else float(own))

        @staticmethod
        def generate_sts_session_token(role_arn: str, token_expiry_seconds: int) -> Any:
            # As the stock one, whose client nobody else gets to see.
            import boto3

            client = patient_boto(boto3.client("sts"))
            try:
                answer = client.assume_role(
                    RoleArn=role_arn, RoleSessionName="Celery", DurationSeconds=token_expiry_seconds
                )
            finally:
                client.close()
            return answer["Credentials"]

    Patient.__name__ = Patient.__qualname__ = channel.__name__
    return Patient


#: What AWS answers when the same request may succeed later, beside errors of the server:
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_PASSING = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
    }
)

#: A request that is wrong is wrong again.
_WRONG = frozenset({"ValidationException", "ItemCollectionSizeLimitExceededException"})

#: Errors by package and class; any other one of a database's client, the store refuses.
#: https://docs.sqlalchemy.org/en/20/core/exceptions.html
_BY_CLASS = {
    "celery.ImproperlyConfigured": "refuses",  # the store's library is not installed, say
    "sqlalchemy.DataError": "none",
    "sqlalchemy.OperationalError": "down",
    "sqlalchemy.InterfaceError": "down",
    "sqlalchemy.DisconnectionError": "down",
    "sqlalchemy.TimeoutError": "down",
    "sqlalchemy.IntegrityError": "down",  # two that store the same task for the first time
    "sqlalchemy.StaleDataError": "down",
    "pymongo.ConnectionFailure": "down",
    "pymongo.DocumentTooLarge": "none",
    "bson.InvalidDocument": "none",
}

#: Where Celery calls the store, and where it makes what can be encoded in between. (What the
#: serializer raises is an ``EncodeError`` by then.)
_OF_THE_STORE = (
    "store_result", "on_chord_part_return", "apply_chord", "set_chord_size", "_fail_chain",
    "get", "mget",
)  # fmt: skip
_OF_THE_TASK = ("encode_result",)

_TROUBLE = "_twolane_store_trouble"

#: Where a running task's request has its start, in seconds since the epoch. Most tasks store one
#: state and many none, so it becomes text only when a state is stored.
STARTED = "_twolane_started"

#: Where a running task's request has the fence of its lease, see ``twolane.worker.lease``.
FENCE = "_twolane_fence"


class Trouble(StrEnum):
    """The trouble of a store, by the error that it raised."""

    DOWN = "down"  # it did not answer, or asks to come later
    REFUSES = "refuses"  # it is full, read-only, or not for us: nothing can be stored in it
    NONE = "none"  # it is not the store's matter: what was to be stored is too big, say


def guard(backend: Any) -> Any:
    """Have the backend's errors say whether the store is in trouble. Once for each backend."""
    if vars(backend).get(_TROUBLE):
        return backend
    vars(backend)[_TROUBLE] = True
    for name in _OF_THE_STORE:
        _wrap(backend, name, lambda error: noted(error, _trouble(error, backend)))
    for name in _OF_THE_TASK:
        _wrap(backend, name, lambda error: noted(error, Trouble.NONE))
    stock = backend.mark_as_failure

    @wraps(stock)
    def mark_as_failure(*args: Any, **options: Any) -> Any:
        # Called where Celery handles the error that it takes for the task's failure. The error that
        # it hands over may be another one, made to be pickled.
        handled = sys.exc_info()[1]
        if handled is not None and is_outage(handled):
            raise handled
        return stock(*args, **options)

    backend.mark_as_failure = mark_as_failure
    return backend


@contextmanager
def noting_trouble() -> Iterator[None]:
    """Have an error say whether the store is in trouble, where there is no backend yet."""
    try:
        yield
    except Exception as error:
        trouble = _trouble(error, None)
        noted(error, Trouble.REFUSES if trouble is Trouble.NONE else trouble)
        raise


def keep_connections(backend: Any) -> Any:
    """Let a backend on SQLAlchemy keep its connections in an execution environment, as it does in
    the processes of a prefork pool; anywhere else it opens one for each result. A connection that
    was cut while the environment was frozen is noticed by ``pool_pre_ping`` only.
    """
    manager = vars(backend).get("session_manager")
    if manager is not None and "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        manager.forked = bool(backend.engine_options.get("pool_pre_ping"))
    return backend


def stores_more(backend: Any, more: Callable[[Any], dict[str, str]]) -> Any:
    """Have a backend store what ``more`` says of a task's request, with every state of the task."""
    stock = backend._get_result_meta  # noqa: SLF001 - where Celery makes what it stores

    def with_more(
        result: Any, state: str, traceback: Any, request: Any, **options: Any
    ) -> dict[str, Any]:
        meta: dict[str, Any] = stock(result, state, traceback, request, **options)
        return meta | more(request)

    backend._get_result_meta = with_more  # noqa: SLF001
    return backend


def is_outage(error: BaseException, backend: Any = None) -> bool:
    """True if the store did not answer; ``backend``: its error may not have come to a guard."""
    if backend is not None and isinstance(error, Exception):
        noted(error, _trouble(error, backend))
    return trouble_of(error) is Trouble.DOWN


def trouble_of(error: BaseException) -> Trouble:
    """The trouble of the store that the error came from, if it did. Also of a warning that the
    application makes an error: Celery warns of an error outside of the body before it goes on.
    """
    if isinstance(error, RuntimeWarning) and error.__context__ is not None:
        error = error.__context__
    trouble: Trouble = vars(error).get(_TROUBLE, Trouble.NONE)
    return trouble


def _wrap(backend: Any, name: str, note: Callable[[Exception], None]) -> None:
    stock = getattr(backend, name, None)
    if stock is None:
        return

    @wraps(stock)
    def noting(*args: Any, **options: Any) -> Any:
        try:
            return stock(*args, **options)
        except Exception as error:
            note(error)
            raise

    setattr(backend, name, noting)


def noted(error: Exception, trouble: Trouble) -> None:
    vars(error).setdefault(_TROUBLE, trouble)  # the innermost knows best


def _trouble(error: Exception, backend: Any) -> Trouble:
    """``backend`` is Celery's: Redis's knows its own errors."""
    if isinstance(
        error, (StoreUnavailableError, OSError, *getattr(backend, "connection_errors", ()))
    ):
        return Trouble.DOWN
    botocore: Any = sys.modules.get("botocore.exceptions")
    if botocore is not None and isinstance(error, botocore.BotoCoreError | botocore.ClientError):
        if not isinstance(error, botocore.ClientError):
            passes = isinstance(error, botocore.HTTPClientError | botocore.ConnectionError)
            return Trouble.DOWN if passes else Trouble.REFUSES
        answer = error.response
        code = answer.get("Error", {}).get("Code")
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500 or code in _PASSING:
            return Trouble.DOWN
        return Trouble.NONE if code in _WRONG else Trouble.REFUSES
    for kind in type(error).__mro__:
        trouble = _BY_CLASS.get(f"{kind.__module__.partition('.')[0]}.{kind.__name__}")
        if trouble is not None:
            return Trouble(trouble)
    # Of the client of a database, and of no library that has to do with the task.
    package = type(error).__module__.partition(".")[0]
    tasks = package in {"celery", "kombu", "billiard", "twolane", *sys.stdlib_module_names}
    return Trouble.NONE if tasks else Trouble.REFUSES
