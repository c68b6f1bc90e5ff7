"""Keys of a bounded size, from text that comes from outside."""

from __future__ import annotations

import hashlib

#: The longest partition key that DynamoDB takes, in bytes; one longer key makes it refuse a whole
#: BatchGetItem. Redis takes more, but the same keys are used there:
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-partition-sort-keys
LIMIT = 2048

#: How much of a long key stays readable, in characters.
_HEAD = 64


def bounded(key: str) -> str:
    """The key itself where it is 1 to ``LIMIT`` bytes of UTF-8, else its head and a digest.

    The same text always gives the same key, and a bounded key is its own. Text with a lone
    surrogate has no UTF-8, so it gets a digest too.
    """
    if key.isascii() and 0 < len(key) <= LIMIT:
        return key
    try:
        if 0 < len(key.encode()) <= LIMIT:
            return key
    except UnicodeEncodeError:
        pass
    return digested(key)


def digested(key: str) -> str:
    """The head of a key and a digest of the whole."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    head = key[:_HEAD].encode("ascii", "replace").decode()
    return f"{head}~{digest}"
