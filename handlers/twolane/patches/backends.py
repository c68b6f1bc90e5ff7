"""Tells an error of the result store, which will be up again, from an error of the task.

Celery's tracer takes an error of its own (the result cannot be stored) for a failure of the task,
and records that as soon as the store answers again. The task has not failed, it may not even have
begun: its message goes back. Nothing else does that once the task's body has ended. So what the
store says must be told from what a hook, an errback or a publisher says, which may be of the same
class: the application may well use the same Redis, and every library raises ``OSError``. The class
does not say it, the place does: ``guard`` stands where Celery calls the store.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any

from twolane.errors import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

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

#: A request that is wrong is wrong again.
_WRONG = frozenset({"ValidationException", "ItemCollectionSizeLimitExceededException"})

#: Where Celery calls the store, and where it makes what can be encoded in between. (What the
#: serializer raises is an ``EncodeError`` by then.)
_OF_THE_STORE = (
    "store_result", "on_chord_part_return", "apply_chord", "set_chord_size", "_fail_chain",
    "get", "mget",
)  # fmt: skip
_OF_THE_TASK = ("encode_result",)

_TROUBLE = "_twolane_store_trouble"

#: Where a running task's request has its start, in seconds since the epoch. Most tasks store one
#: state and many none, so it becomes text only when a state is stored.
STARTED = "_twolane_started"

#: Where a running task's request has the fence of its lease, see ``twolane.worker.lease``.
FENCE = "_twolane_fence"


class Trouble(StrEnum):
    """The trouble of a store, by the error that it raised."""

    DOWN = "down"  # it did not answer, or asks to come later
    REFUSES = "refuses"  # it is full, read-only, or not for us: nothing can be stored in it
    NONE = "none"  # it is not the store's matter: what was to be stored is too big, say


def guard(backend: Any) -> Any:
    """Have the backend's errors say whether the store is in trouble. Once for each backend."""
    if vars(backend).get(_TROUBLE):
        return backend
    vars(backend)[_TROUBLE] = True
    for name in _OF_THE_STORE:
        _wrap(backend, name, lambda error: noted(error, _trouble(error, backend)))
    for name in _OF_THE_TASK:
        _wrap(backend, name, lambda error: noted(error, Trouble.NONE))
    stock = backend.mark_as_failure

    @wraps(stock)
    def mark_as_failure(*args: Any, **options: Any) -> Any:
        # Called where Celery handles the error that it takes for the task's failure. The error that
        # it hands over may be another one, made to be pickled.
        handled = sys.exc_info()[1]
        if handled is not None and is_outage(handled):
            raise handled
        return stock(*args, **options)

    backend.mark_as_failure = mark_as_failure
    return backend


def stores_more(backend: Any, more: Callable[[Any], dict[str, str]]) -> Any:
    """Have a backend store what ``more`` says of a task's request, with every state of the task."""
    stock = backend._get_result_meta  # noqa: SLF001 - where Celery makes what it stores

    def with_more(
        result: Any, state: str, traceback: Any, request: Any, **options: Any
    ) -> dict[str, Any]:
        meta: dict[str, Any] = stock(result, state, traceback, request, **options)
        return meta | more(request)

    backend._get_result_meta = with_more  # noqa: SLF001
    return backend


def is_outage(error: BaseException, backend: Any = None) -> bool:
    """True if the store did not answer, where ``guard`` stands between.

    With the backend: where its error has not come to the guard yet.
    """
    if backend is not None and isinstance(error, Exception):
        noted(error, _trouble(error, backend))
    return trouble_of(error) is Trouble.DOWN


def trouble_of(error: BaseException) -> Trouble:
    """The trouble of the store that the error came from; none, if it came from anywhere else.

    Celery warns of an error outside of the body before it goes on; where the application has made
    errors of warnings, that is what comes out.
    """
    if isinstance(error, RuntimeWarning) and error.__context__ is not None:
        error = error.__context__
    trouble: Trouble = vars(error).get(_TROUBLE, Trouble.NONE)
    return trouble


def _wrap(backend: Any, name: str, note: Callable[[Exception], None]) -> None:
    stock = getattr(backend, name, None)
    if stock is None:
        return

    @wraps(stock)
    def noting(*args: Any, **options: Any) -> Any:
        try:
            return stock(*args, **options)
        except Exception as error:
            note(error)
            raise

    setattr(backend, name, noting)


def noted(error: Exception, trouble: Trouble) -> None:
    vars(error).setdefault(_TROUBLE, trouble)  # the innermost knows best


def _trouble(error: Exception, backend: Any) -> Trouble:
    """``backend`` is Celery's: Redis's knows its own errors."""
    if isinstance(
        error, (StoreUnavailableError, OSError, *getattr(backend, "connection_errors", ()))
    ):
        return Trouble.DOWN
    botocore: Any = sys.modules.get("botocore.exceptions")
    if botocore is not None and isinstance(error, botocore.BotoCoreError | botocore.ClientError):
        return _botocores(error, botocore)
    # Of the client of a database, and of no library that has to do with the task.
    package = type(error).__module__.partition(".")[0]
    tasks = package in {"celery", "kombu", "billiard", "twolane", *sys.stdlib_module_names}
    return Trouble.NONE if tasks else Trouble.REFUSES


def _botocores(error: Any, botocore: Any) -> Trouble:
    if not isinstance(error, botocore.ClientError):
        passes = isinstance(error, botocore.HTTPClientError | botocore.ConnectionError)
        return Trouble.DOWN if passes else Trouble.REFUSES
    answer = error.response
    code = answer.get("Error", {}).get("Code")
    if answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500 or code in _PASSING:
        return Trouble.DOWN
    return Trouble.NONE if code in _WRONG else Trouble.REFUSES
