"""A result that is too big for an item of DynamoDB, made to fit or refused for good.

``result_extended`` stores a task's arguments with each of its states: a task whose arguments came
by claim check could then not store that it has started, and would be delivered until it is dead
lettered. Its arguments go in short form. A return value that is too big by itself is the task's own
failure, which is told at once, not retried.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

#: 400 KB with the names and the other attributes of the item, which take less than 1 KB.
LIMIT = 399 * 1024
_ARGUMENTS = ("args", "kwargs")
_SHOWN = 1024


def fitted(
    value: str | bytes, decode: Callable[[Any], Any], encode: Callable[[Any], str | bytes]
) -> str | bytes:
    """The encoded result as it may be stored.

    Raises ``EncodeError``, which Celery takes for a failure of the task.
    """
    if _size(value) <= LIMIT:
        return value
    meta: dict[str, Any] = decode(value)
    short = {name: saferepr(meta[name], maxlen=_SHOWN) for name in _ARGUMENTS if meta.get(name)}
    value = encode({**meta, **short})
    if _size(value) <= LIMIT:
        return value
    raise EncodeError(
        f"the result takes {_size(value):,} bytes, an item of DynamoDB {LIMIT:,}: return the place "
        "of what is big, in S3 for one, or keep results in Redis"
    )


def _size(value: str | bytes) -> int:
    return len(value) if isinstance(value, bytes) else len(value.encode())
