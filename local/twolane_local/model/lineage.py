"""Lambda's recursive-loop detection: how often a chain of requests has invoked a function.

The count travels in the field ``Lineage`` of X-Ray's trace header: Lambda gives the header to the
runtime, SDKs send it on with each request, SQS keeps it on the message, and the next invocation
reads it there. A function is invoked 16 times in one chain of requests, and not once more:
https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html

AWS does not document the field, nor what SQS's own redrive does with it (unverified: `lineage`,
`lineage-after-redrive`). It was seen as a list of hashed resources with how often the chain
has come back to each, ``Lineage=061379e8:0|cbc84ad3:2``, which this module writes
(https://github.com/aws/aws-xray-sdk-node/pull/651); newer ones hold one resource only, and not
enough to count for each function. Which of a batch's chains an invocation belongs to is not
documented either. Here it is the one that has invoked the function least: no chain is then stopped
for being in one batch with a longer one.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: "Approximately 16 times", as AWS says it.
LIMIT = 16
ALLOW, TERMINATE = "Allow", "Terminate"

_FIELD = "Lineage="
#: How many functions of a chain are kept in mind.
_KEPT = 16


def visits(header: str, arn: str) -> int:
    """How often the chain with this trace header has invoked the function."""
    return _counts(header).get(_hash(arn), -1) + 1


def stopped(headers: Iterable[str], arn: str) -> frozenset[str]:
    """Those trace headers whose chain may not invoke the function once more."""
    return frozenset(header for header in headers if visits(header, arn) >= LIMIT)


def onward(headers: Iterable[str], arn: str) -> str:
    """The field for the function's next invocation, which these trace headers have led to."""
    nearest = min(headers, key=lambda header: visits(header, arn), default="")
    counts = _counts(nearest)
    count = counts.pop(_hash(arn), -1) + 1
    kept = [*list(counts.items())[1 - _KEPT :], (_hash(arn), count)]
    return _FIELD + "|".join(f"{name}:{number}" for name, number in kept)


def without(header: str) -> str:
    """The trace header with no lineage: a chain of requests that begins here."""
    return ";".join(part for part in header.split(";") if not part.strip().startswith(_FIELD))


def _hash(arn: str) -> str:
    return f"{zlib.crc32(arn.encode()):08x}"


def _counts(header: str) -> dict[str, int]:
    """What the header holds of it; what is not of this form (AWS's own) counts nothing."""
    found: dict[str, int] = {}
    for part in header.split(";"):
        field = part.strip()
        if not field.startswith(_FIELD):
            continue
        for entry in field.removeprefix(_FIELD).split("|"):
            name, _, number = entry.partition(":")
            if number.isdecimal():
                found[name] = int(number)
    return found
