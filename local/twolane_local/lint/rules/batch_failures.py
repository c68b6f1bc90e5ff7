"""One failed message does not bring its whole batch back, nor is it lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import UNKNOWN, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        types = source.mapping.properties.get("FunctionResponseTypes")
        if types is UNKNOWN or "ReportBatchItemFailures" in listed(types):
            continue
        function = source.function.id if source.function else "the function"
        application = subject.applications.get(function)
        if application is not None and application.adapter == "WorkerHandler":
            message = (
                f"{function} answers which messages to keep, but the mapping does not ask: SQS "
                "deletes them all, failed ones too"
            )
            severity = Severity.ERROR
        elif (source.mapping.number("BatchSize", 10) or 1) > 1:
            message = f"one failed message brings the whole batch of {function} back"
            severity = Severity.WARNING
        else:
            continue
        yield Found(
            source.mapping.id,
            message,
            "add FunctionResponseTypes: [ReportBatchItemFailures] to the event source",
            ("FunctionResponseTypes",),
            severity,
        )


RULE = Rule(
    "TL103",
    "report-batch-item-failures",
    Severity.ERROR,
    "An event source mapping with more than one message a batch, or in front of a WorkerHandler, "
    "reports batch item failures.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html",
    check,
)
