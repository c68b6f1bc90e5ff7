"""Clients of redis-py and boto3 that take no longer for a call than the invocation has time.

Neither has a limit for a single call that can change from one call to the next, so the place where
each reads its limit is replaced; see ``environment.invocation``. kombu's channel to SQS gets such
clients too.
"""

from __future__ import annotations

import functools
from typing import Any

from twolane.environment.invocation import LONGEST_S, left_s, limit_s

#: boto3 waits up to so long, in seconds, between two attempts.
_BACKOFF_S = 3.0

_SILENT = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})

#: A long poll of SQS waits for a message, up to 20 seconds; that is no silence.
_POLL_S = 25.0
_POLLS = frozenset({"AmazonSQS.ReceiveMessage", b"AmazonSQS.ReceiveMessage"})


def patient_redis(client: Any, *, longest: float = LONGEST_S) -> Any:
    """Give each call of a redis-py client the time that there is; returns the client.

    ``longest``: what the application has set for one answer, if anything.
    """
    pool: Any = client.connection_pool
    pool.connection_class = _patient(pool.connection_class, longest)
    return client


def impatient_redis(client: Any) -> Any:
    """As ``patient_redis``, for a client that redis-py has made itself: one more attempt, at once.

    Those that it makes by default (from version 6 on) sleep for seconds in between, whatever time
    is left, and follow also where nothing was answered.
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
