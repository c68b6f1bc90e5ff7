"""Calls of AWS's JSON protocols, signed, with retries; and those of SQS.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane.environment.invocation import deadline
from twolane.publish.connection import Wire
from twolane.publish.errors import EnqueueError
from twolane.publish.sigv4 import signed_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.publish.connection import Response
    from twolane.publish.sigv4 import Credentials
    from twolane.publish.target import Endpoint, Target

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
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._wires: dict[Endpoint, Wire] = {}

    def make(self, call: Call, read: Callable[[Response], dict[str, Any] | None]) -> dict[str, Any]:
        """Make one call; ``read`` gives what the answer says, ``None`` where it is a refusal.

        Raises ``EnqueueError``, which tells what the service said, once attempts or time are used
        up. A call that timed out may have been carried out: it is then made again, as every AWS SDK
        does.
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
                failure = _unreachable(call, exc)
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
        wire = self._wire(call.endpoint)
        return wire.post(headers, call.body, timeout_s=timeout_s, path=call.path)

    def _wire(self, endpoint: Endpoint) -> Wire:
        wire = self._wires.get(endpoint)
        if wire is None:
            wire = Wire(endpoint, ca_bundle=os.environ.get("AWS_CA_BUNDLE"))
            self._wires[endpoint] = wire
        return wire


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


def _unreachable(call: Call, exc: Exception) -> EnqueueError:
    failure = EnqueueError(
        f"{call.name} at {call.endpoint.host} did not answer for {call.about} "
        f"({type(exc).__name__}: {exc}). Check the network path (VPC endpoint, AWS_ENDPOINT_URL); "
        f"{call.taken}."
    )
    failure.__cause__ = exc
    return failure


def _answer(response: Response) -> dict[str, Any] | None:
    """SQS's answer to a request that it took; ``None`` for anything else.

    Only a message id, or the list of a batch, is a promise: a 200 can come from whatever stands in
    between.
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
