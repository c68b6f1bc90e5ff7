"""Lambda's recursive-loop detection: how often a chain of requests has invoked a function.

The count travels in the field ``Lineage`` of X-Ray's trace header: Lambda gives the header to the
runtime, SDKs send it on with each request, SQS keeps it on the message, and the next invocation
reads it there. A function is invoked 16 times in one chain of requests, and not once more:
https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html

AWS does not document the field, nor its use in SQS's own redrive (unverified: `lineage`,
`lineage-after-redrive`). This module writes the form that was seen: a list of hashed resources with
the number of times that the chain has returned to each, ``Lineage=061379e8:0|cbc84ad3:2``
(https://github.com/aws/aws-xray-sdk-node/pull/651). Newer headers hold one resource only, which is
not enough to count for each function. AWS does not document either which of a batch's chains an
invocation belongs to. Here it is the chain that has invoked the function least often, so that no
chain is stopped because it shares a batch with a longer one.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: AWS: "approximately 16 times".
LIMIT = 16
ALLOW, TERMINATE = "Allow", "Terminate"

_FIELD = "Lineage="
#: The number of functions of a chain that the field holds.
_KEPT = 16


def invocations(header: str, arn: str) -> int:
    """Return how often the chain with this trace header has invoked the function."""
    return _counts(header).get(_hash(arn), -1) + 1


def at_limit(headers: Iterable[str], arn: str) -> frozenset[str]:
    """Return the trace headers whose chain may not invoke the function again."""
    return frozenset(header for header in headers if invocations(header, arn) >= LIMIT)


def next_field(headers: Iterable[str], arn: str) -> str:
    """Return the field for the function's next invocation, caused by these trace headers."""
    shortest = min(headers, key=lambda header: invocations(header, arn), default="")
    counts = _counts(shortest)
    count = counts.pop(_hash(arn), -1) + 1
    kept = [*list(counts.items())[1 - _KEPT :], (_hash(arn), count)]
    return _FIELD + "|".join(f"{name}:{number}" for name, number in kept)


def without_lineage(header: str) -> str:
    """Return the trace header without its lineage, for a chain of requests that begins here."""
    return ";".join(part for part in header.split(";") if not part.strip().startswith(_FIELD))


def _hash(arn: str) -> str:
    return f"{zlib.crc32(arn.encode()):08x}"


def _counts(header: str) -> dict[str, int]:
    """Read the counts from a header; other forms of the field (AWS's own) are skipped."""
    found: dict[str, int] = {}
    for part in map(str.strip, header.split(";")):
        if part.startswith(_FIELD):
            for entry in part.removeprefix(_FIELD).split("|"):
                name, _, number = entry.partition(":")
                if number.isdecimal():
                    found[name] = int(number)
    return found
