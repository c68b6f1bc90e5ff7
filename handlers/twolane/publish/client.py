"""Calls of AWS's JSON protocols, signed, with retries, over a kept-alive connection; those of SQS.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html

**Signature.** Version 4 for one shape of request, a POST of JSON without a query. botocore's signer
does the same and costs its import, 120 ms of a cold start:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

**Connection.** ``http.client`` reads a response through the e-mail parser, which is a third of the
cost of an enqueue beside Celery itself; SQS answers with a dozen plain header lines and a length.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import random
import select
import socket
import time
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from twolane.environment import snapshot
from twolane.environment.invocation import deadline, sleep
from twolane.publish.errors import EnqueueError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from twolane.publish.transport import Endpoint, Target


ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """They sign a request; only the key's id may be shown. A named tuple, as all small values of
    the light path: a frozen dataclass takes ten times as long to define, at each cold start.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id!r}, …)"


def signed_headers(
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: Credentials,
    region: str,
    service: str,
    now: float,
    path: str = "/",
) -> dict[str, str]:
    """``headers`` (lower-case, with ``host``) and a signature over them and a plain ``path``; AWS
    accepts it within five minutes of ``now``, epoch seconds.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    signed = {**headers, "x-amz-date": stamp}
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token
    names = sorted(signed)
    canonical = "\n".join(
        [
            "POST",
            path,
            "",
            *(f"{name}:{' '.join(signed[name].split())}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = _signing_key(credentials.secret_access_key, stamp[:8], region, service)
    signature = hmac.digest(key, f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256")
    signed["authorization"] = (
        f"{ALGORITHM} Credential={credentials.access_key_id}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature.hex()}"
    )
    return signed


@lru_cache(maxsize=8)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Good for a whole day: four of a request's five HMACs."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


#: After this long unused, a connection is opened anew: whoever sits between may have forgotten it.
IDLE_S = 50.0


class Wire:
    """Not for use by two threads at once; kombu gives each publisher a connection of its own."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        ca_bundle: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._ca_bundle = ca_bundle
        self._monotonic = monotonic
        self._socket: socket.socket | None = None
        self._reader: BinaryIO | None = None
        self._last_used = 0.0
        self._pid = 0
        snapshot.holds(self)

    def post(
        self, headers: Mapping[str, str], body: bytes, *, timeout_s: float, path: str = "/"
    ) -> Response:
        """One POST. Raises ``OSError``: nobody there, time out, or a broken answer."""
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        length = f"content-length: {len(body)}"
        request = f"POST {path} HTTP/1.1\r\n{head}{length}\r\n\r\n".encode() + body
        sock, reader = self._connected(timeout_s)
        try:
            sock.sendall(request)
            response = read(reader)
        except BaseException:
            # The state of the exchange is unknown: the next one starts on a fresh connection.
            self.close()
            raise
        self._last_used = self._monotonic()
        if not response.reusable:
            self.close()
        return response

    def close(self) -> None:
        """Drop the connection; the next request opens another."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    let_go = close

    def _connected(self, timeout_s: float) -> tuple[socket.socket, BinaryIO]:
        if self._socket is not None and self._reader is not None and self._usable(self._socket):
            self._socket.settimeout(timeout_s)
            return self._socket, self._reader
        self.close()
        self._socket, self._pid = self._open(timeout_s), os.getpid()
        self._reader = self._socket.makefile("rb")
        return self._socket, self._reader

    def _usable(self, sock: socket.socket) -> bool:
        """An idle connection that is readable was closed by the other side, as in a freeze."""
        # A forked process has the descriptor too, but the conversation is its parent's.
        if self._monotonic() - self._last_used > IDLE_S or self._pid != os.getpid():
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def _open(self, timeout_s: float) -> socket.socket:
        endpoint = self._endpoint
        sock = socket.create_connection((endpoint.name, endpoint.port), timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not endpoint.secure:
            return sock
        try:
            return _tls(self._ca_bundle).wrap_socket(sock, server_hostname=endpoint.name)
        except BaseException:
            sock.close()
            raise


@cache
def _tls(ca_bundle: str | None) -> ssl.SSLContext:
    """One for all connections: reading the certificates takes longer than a handshake."""
    import ssl

    return ssl.create_default_context(cafile=ca_bundle)


_MAX_LINE = 65536
_MAX_HEADERS = 100


class BrokenResponseError(ConnectionError):
    """The server hung up, or did not speak HTTP/1.1; whether it took the request is unknown."""


class Response(NamedTuple):
    """A whole answer; ``reusable``: whether another request may follow on the connection."""

    status: int
    body: bytes
    reusable: bool


def read(reader: BinaryIO) -> Response:
    """The next final response. Raises ``BrokenResponseError``, or what the reader raises."""
    version, status = _status(reader)
    headers = _headers(reader)
    while 100 <= status < 200:
        version, status = _status(reader)
        headers = _headers(reader)
    reusable = version != b"HTTP/1.0" and b"close" not in headers.get(b"connection", b"").lower()
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return Response(status, _chunks(reader), reusable)
    if b"content-length" in headers:
        return Response(status, _exactly(reader, _number(headers[b"content-length"], 10)), reusable)
    return Response(status, reader.read(), reusable=False)


def _status(reader: BinaryIO) -> tuple[bytes, int]:
    line = reader.readline(_MAX_LINE)
    if not line:
        raise BrokenResponseError("the server closed the connection without an answer")
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise BrokenResponseError(f"the server answered {line[:80]!r}, which is not HTTP/1.1")
    return version, int(rest[:3])


def _headers(reader: BinaryIO) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for _ in range(_MAX_HEADERS):
        line = reader.readline(_MAX_LINE)
        if line in {b"\r\n", b"\n"}:
            return headers
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    raise BrokenResponseError(f"the server's answer has no end after {_MAX_HEADERS} header lines")


def _chunks(reader: BinaryIO) -> bytes:
    parts = []
    while size := _number(reader.readline(_MAX_LINE).partition(b";")[0].strip(), 16):
        parts.append(_exactly(reader, size))
        reader.readline(_MAX_LINE)
    _headers(reader)
    return b"".join(parts)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    body = reader.read(size)
    if len(body) < size:
        raise BrokenResponseError(f"the answer ended after {len(body)} of {size} bytes")
    return body


def _number(text: bytes, base: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise BrokenResponseError(f"the server gave {text[:80]!r} as a length")
    return number


#: One request's time-out and that of all attempts together, in seconds. Lambda's default function
#: timeout is 3 s: where nobody says how much time is left, an enqueue that fails still has to leave
#: some to say so.
ATTEMPT_S = 2.0
TOTAL_S = 2.5
#: All attempts together where the invocation's deadline is known.
LONGEST_S = 8.0
#: What is kept of the invocation's time for the answer.
RESERVE_S = 0.25
ATTEMPTS = 4
BACKOFF_BASE_S = 0.05
BACKOFF_CAP_S = 0.8

#: Codes that the AWS SDKs treat as throttling or as passing, beside every 429 and 5xx.
_PASSING = frozenset(
    {
        "RequestThrottled", "ThrottlingException", "Throttling", "ThrottledException",
        "RequestThrottledException", "TooManyRequestsException", "SlowDown", "RequestTimeout",
        "RequestTimeoutException", "InternalError", "InternalFailure", "ServiceUnavailable",
        "KmsThrottled", "OverLimit",
    }
)  # fmt: skip


class Call(NamedTuple):
    """One call. ``service`` is what signatures call it; the rest of its words are for people."""

    endpoint: Endpoint
    region: str
    service: str
    credentials: Credentials
    headers: Mapping[str, str]
    body: bytes
    name: str
    action: str
    about: str
    #: What to know of a call that may have been taken, although no answer came.
    taken: str
    path: str = "/"


class LightClient:
    """Calls any service; keeps one connection for each endpoint."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._wires: dict[Endpoint, Wire] = {}

    def make(self, call: Call, read: Callable[[Response], dict[str, Any] | None]) -> dict[str, Any]:
        """Make one call; ``read`` gives what the answer says, ``None`` for a refusal. Raises
        ``EnqueueError`` with what the service said, once attempts or time are used up. A call that
        timed out is made again, as by every AWS SDK, though it may have been carried out.
        """
        ends = self._ends()
        failure: EnqueueError | None = None
        for attempt in range(ATTEMPTS):
            left = ends - self._monotonic()
            if left <= 0:
                break
            try:
                response = self._post(call, min(left, ATTEMPT_S))
            except OSError as exc:
                failure = EnqueueError(
                    f"{call.name} at {call.endpoint.host} did not answer for {call.about} "
                    f"({type(exc).__name__}: {exc}). Check the network path (VPC endpoint, "
                    f"AWS_ENDPOINT_URL); {call.taken}."
                )
                failure.__cause__ = exc
            else:
                answer = read(response)
                if answer is not None:
                    return answer
                failure, passing = _refusal(call, response)
                if not passing:
                    break
            if attempt + 1 < ATTEMPTS:
                self.pause(attempt, ends)
        raise failure or EnqueueError(
            f"No time is left in this invocation to send to {call.about}."
        )

    def pause(self, attempt: int, ends: float | None = None) -> None:
        """Full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/"""
        ceiling = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2**attempt)
        left = (self._ends() if ends is None else ends) - self._monotonic()
        self._sleep(max(0.0, min(left, ceiling * self._jitter())))

    def close(self) -> None:
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()

    def _ends(self) -> float:
        now, invocation = self._monotonic(), deadline.get()
        if invocation is None:
            return now + TOTAL_S
        return min(now + LONGEST_S, invocation - RESERVE_S)

    def _post(self, call: Call, timeout_s: float) -> Response:
        headers = signed_headers(
            {**call.headers, "host": call.endpoint.host},
            call.body,
            credentials=call.credentials,
            region=call.region,
            service=call.service,
            now=self._clock(),
            path=call.path,
        )
        wire = self._wires.get(call.endpoint)
        if wire is None:
            wire = Wire(call.endpoint, ca_bundle=os.environ.get("AWS_CA_BUNDLE"))
            self._wires[call.endpoint] = wire
        return wire.post(headers, call.body, timeout_s=timeout_s, path=call.path)


class SqsClient(LightClient):
    """SendMessage, SendMessageBatch and the like, to any queue."""

    def call(self, action: str, target: Target, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Call one action on the target's queue; returns SQS's answer.

        Raises ``EnqueueError`` as ``make`` does. A message that is sent twice is a duplicate with
        the same task id, and the worker's lease, if it has a state store, knows it again.
        """
        return self.make(
            Call(
                target.endpoint,
                target.region,
                "sqs",
                target.credentials,
                {
                    "content-type": "application/x-amz-json-1.0",
                    "x-amz-target": f"AmazonSQS.{action}",
                },
                json.dumps({"QueueUrl": target.queue_url, **fields}).encode(),
                name="SQS",
                action=action,
                about=target.queue_url,
                taken="if SQS took the message after all, its task id makes the second one a "
                "duplicate for a worker with a state store",
            ),
            _answer,
        )


def is_passing(code: str) -> bool:
    """True if an error code is worth another attempt."""
    return code in _PASSING


def _answer(response: Response) -> dict[str, Any] | None:
    """SQS's answer if it took the request. Only a message id, or the list of a batch, is a promise:
    a 200 can come from whatever stands in between.
    """
    if response.status != 200:
        return None
    try:
        answer = json.loads(response.body)
    except ValueError:
        return None
    known = isinstance(answer, dict) and answer.keys() & {"MessageId", "Successful", "Failed"}
    return answer if known else None


def _refusal(call: Call, response: Response) -> tuple[EnqueueError, bool]:
    """The error of a refused request, and whether another attempt may succeed."""
    status = response.status
    try:
        said = json.loads(response.body)
        code = str(said.get("__type", "")).rpartition("#")[2]
        message = str(said.get("message") or said.get("Message") or "")
    except (ValueError, AttributeError):
        code, message = "", response.body[:200].decode(errors="replace")
    what = f"{call.action} on {call.about}"
    failure = EnqueueError(
        f"{call.name} refused {what}: {status} {code or 'no code'}: {message}", code=code
    )
    return failure, status >= 500 or status == 429 or is_passing(code)
