"""A queue hides a message for long enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Source, Subject

_TIMES = 6
#: SQS's own limit: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
_MOST_S = 43_200


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        found = _compared(source)
        if found is not None:
            yield found


def _compared(source: Source) -> Found | None:
    if source.queue is None or source.function is None:
        return None
    visibility = source.queue.number("VisibilityTimeout", 30)
    timeout = source.function.number("Timeout", 3)
    window = source.mapping.number("MaximumBatchingWindowInSeconds", 0)
    if visibility is None or timeout is None or window is None:
        return None
    wanted = min(_TIMES * timeout + window, _MOST_S)
    if visibility >= wanted:
        return None
    name, function = source.queue.id, source.function.id
    if visibility < timeout:
        message = (
            f"{name} shows a message again after {visibility:g} s, while {function} may still work "
            f"on it for {timeout:g} s: it runs twice, and Lambda refuses the mapping"
        )
        severity = Severity.ERROR
    else:
        message = (
            f"{name}'s visibility timeout is {visibility:g} s, less than {_TIMES} times the "
            f"{timeout:g} s of {function}: a batch that Lambda has to try again is delivered twice"
        )
        # On a FIFO queue a failed message holds up its group for as long as it is hidden, so a
        # short time may be meant.
        severity = Severity.NOTE if source.queue.flag("FifoQueue") else Severity.WARNING
    fix = f"set VisibilityTimeout: {wanted:g} on {name}, or lower {function}'s Timeout"
    return Found(name, message, fix, ("VisibilityTimeout",), severity)


RULE = Rule(
    "TL101",
    "visibility-timeout",
    Severity.ERROR,
    "A queue's visibility timeout is at least six times its function's timeout, and the batching "
    "window on top.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html",
    check,
)
