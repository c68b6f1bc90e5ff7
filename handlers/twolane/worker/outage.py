"""Whether an error is the result store's: it is down, and will be up again.

Celery's tracer takes an error of its own (the result cannot be stored) for a failure of the task,
and records that as soon as the store answers again. The task has not failed, it may not even have
begun: its message goes back.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery.exceptions import Ignore, Reject

from twolane.errors import StoreUnavailableError

if TYPE_CHECKING:
    from billiard.einfo import ExceptionInfo

#: What AWS answers when the same request may succeed later, beside errors of the server:
#: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
_PASSING = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
    }
)


def outage_in(failure: ExceptionInfo, backend: Any) -> BaseException | None:
    """The store's error behind a failed run; ``None`` where the task itself has failed."""
    error: Any = failure.exception
    error = getattr(error, "exc", error)
    if not getattr(failure, "internal", False) or isinstance(error, Reject | Ignore):
        return None
    outage: BaseException | None = error if is_outage(error, backend) else None
    return outage


def is_outage(error: BaseException, backend: Any) -> bool:
    """``backend`` is Celery's: Redis's knows its own errors."""
    known = (StoreUnavailableError, OSError, *getattr(backend, "connection_errors", ()))
    if isinstance(error, known):
        return True
    botocore: Any = sys.modules.get("botocore.exceptions")
    if botocore is None:
        return False
    if isinstance(error, botocore.ClientError):
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or answer.get("Error", {}).get("Code") in _PASSING
    return isinstance(error, botocore.HTTPClientError | botocore.ConnectionError)
