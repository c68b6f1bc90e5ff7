"""A mapping asks for no more environments than its function may have."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import mapping, number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Source, Subject


def check(subject: Subject) -> Iterator[Found]:
    readers: dict[str, list[Source]] = defaultdict(list)
    for source in subject.sources():
        if source.function is not None:
            readers[source.function.id].append(source)
    for function, sources in readers.items():
        properties = subject.resources[function].properties
        reserved = number(properties.get("ReservedConcurrentExecutions"))
        wanted = [_maximum(source) for source in sources]
        if reserved is None or None in wanted:
            continue
        total = sum(each or 0 for each in wanted)
        if total <= reserved:
            continue
        of = "its mapping drives" if len(sources) == 1 else f"its {len(sources)} mappings drive"
        yield Found(
            function,
            f"{function} may have {reserved:g} environments, and {of} {total:g}: what is refused "
            "was received for nothing, and is dead-lettered in the end",
            f"set ReservedConcurrentExecutions: {total:g}, or lower MaximumConcurrency",
            ("ReservedConcurrentExecutions",),
        )


def _maximum(source: Source) -> float | None:
    scaling = mapping(source.mapping.properties.get("ScalingConfig"))
    return number(scaling.get("MaximumConcurrency"))


RULE = Rule(
    "TL109",
    "concurrency",
    Severity.WARNING,
    "The mappings of a function with reserved concurrency drive no more environments than that.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html",
    check,
)
