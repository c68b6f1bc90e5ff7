"""No batching window on a FIFO queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        window = source.mapping.number("MaximumBatchingWindowInSeconds", 0)
        arn = str(source.mapping.properties["EventSourceArn"])
        if window and arn.endswith(".fifo"):
            yield Found(
                source.mapping.id,
                "Lambda takes no batching window for a FIFO queue; the deployment fails",
                "take MaximumBatchingWindowInSeconds out",
                ("MaximumBatchingWindowInSeconds",),
            )


RULE = Rule(
    "TL106",
    "fifo-window",
    Severity.ERROR,
    "An event source mapping of a FIFO queue has no batching window.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html",
    check,
)
