"""SendMessage and SendMessageBatch, in SQS's JSON protocol, with retries.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-json-faqs.html
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import TYPE_CHECKING, Any

from twolane.publish.deadline import deadline
from twolane.publish.errors import EnqueueError
from twolane.publish.sigv4 import signed_headers
from twolane.publish.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.publish.response import Response
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


class SqsClient:
    """Sends to any queue; keeps one connection for each endpoint."""

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

    def call(self, action: str, target: Target, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Call one action on the target's queue; returns SQS's answer.

        Raises ``EnqueueError``, which tells what SQS said, once attempts or time are used up. A
        request that timed out may have been taken: the retry then makes a duplicate, as it does
        with every AWS SDK. A task's id stays the same, and the worker's lease knows it again.
        """
        body = json.dumps({"QueueUrl": target.queue_url, **fields}).encode()
        ends = self._ends()
        failure: EnqueueError | None = None
        for attempt in range(ATTEMPTS):
            left = ends - self._monotonic()
            if left <= 0:
                break
            try:
                response = self._post(action, target, body, min(left, ATTEMPT_S))
            except OSError as exc:
                failure = _unreachable(target, exc)
            else:
                answer = _answer(response)
                if answer is not None:
                    return answer
                failure, passing = _refusal(action, target, response)
                if not passing:
                    break
            if attempt + 1 < ATTEMPTS:
                self.pause(attempt, ends)
        raise failure or EnqueueError(
            f"No time is left in this invocation to send to {target.queue_url}."
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

    def _post(self, action: str, target: Target, body: bytes, timeout_s: float) -> Response:
        headers = signed_headers(
            {
                "content-type": "application/x-amz-json-1.0",
                "host": target.endpoint.host,
                "x-amz-target": f"AmazonSQS.{action}",
            },
            body,
            credentials=target.credentials,
            region=target.region,
            service="sqs",
            now=self._clock(),
        )
        return self._wire(target.endpoint).post(headers, body, timeout_s=timeout_s)

    def _wire(self, endpoint: Endpoint) -> Wire:
        wire = self._wires.get(endpoint)
        if wire is None:
            wire = Wire(endpoint, ca_bundle=os.environ.get("AWS_CA_BUNDLE"))
            self._wires[endpoint] = wire
        return wire


def is_passing(code: str) -> bool:
    """Whether an error code is worth another attempt."""
    return code in _PASSING


def _unreachable(target: Target, exc: Exception) -> EnqueueError:
    failure = EnqueueError(
        f"SQS at {target.endpoint.host} did not answer for {target.queue_url} "
        f"({type(exc).__name__}: {exc}). Check the network path (VPC endpoint, AWS_ENDPOINT_URL); "
        "if SQS took the message after all, its task id makes the second one a duplicate."
    )
    failure.__cause__ = exc
    return failure


def _answer(response: Response) -> dict[str, Any] | None:
    """What SQS says to a request that it took; ``None`` for anything else.

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


def _refusal(action: str, target: Target, response: Response) -> tuple[EnqueueError, bool]:
    """The error of a refused request, and whether another attempt may succeed."""
    status = response.status
    try:
        said = json.loads(response.body)
        code = str(said.get("__type", "")).rpartition("#")[2]
        message = str(said.get("message") or said.get("Message") or "")
    except (ValueError, AttributeError):
        code, message = "", response.body[:200].decode(errors="replace")
    failure = EnqueueError(
        f"SQS refused {action} on {target.queue_url}: {status} {code or 'no code'}: {message}",
        code=code,
    )
    return failure, status >= 500 or status == 429 or is_passing(code)
