"""How long a call to a store may take: never longer than the invocation still has time.

A store that is gone without a word (a dropped connection, a route that is no more) answers neither
yes nor no, and the clients wait for it: Celery's for Redis 120 s, boto3 a minute for each of its
attempts. Inside an invocation, and in init, each call gets half of the time that is left and five
seconds at most, so that there is always time for the next one and for the answer. Elsewhere, in a
process that nobody waits for, the clients keep their own limits.
"""

from __future__ import annotations

import functools
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane.invocation import deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The longest wait for one answer, in seconds, where the application has set none: redis-py's own.
LONGEST_S = 5.0
#: What is kept of the invocation's time for the answer.
RESERVE_S = 0.1
#: A call is made even where no time is left: stores answer in less, and what a batch has done is
#: worth an attempt to say so.
LEAST_S = 0.05
#: boto3 waits up to so long, in seconds, between two attempts.
_BACKOFF_S = 3.0

_SILENT = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})


def left_s() -> float | None:
    """What is left of the time for calls; ``None`` where nobody says."""
    ends = deadline.get()
    return None if ends is None else max(0.0, ends - RESERVE_S - time.monotonic())


def limit_s(longest: float = LONGEST_S) -> float | None:
    """The limit of the call at hand; ``None`` where nobody says."""
    left = left_s()
    return None if left is None else max(LEAST_S, min(longest, left / 2))


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Inside, calls together take no longer."""
    token = deadline.set(time.monotonic() + seconds + RESERVE_S)
    try:
        yield
    finally:
        deadline.reset(token)


def patient_redis(client: Any, *, longest: float = LONGEST_S) -> Any:
    """Give each call of a redis-py client the time that there is; returns the client.

    ``longest``: what the application has set for one answer, if anything.
    """
    pool: Any = client.connection_pool
    pool.connection_class = _patient(pool.connection_class, longest)
    return client


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


def patient_boto(client: Any) -> Any:
    """Give each request of a boto3 client the time that there is; returns the client.

    A service that has said nothing in that time is not asked again by the same call; for errors
    that it tells, boto3's retries stay, as long as there is time for them.
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
        limit = limit_s()
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
