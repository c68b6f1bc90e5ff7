"""The errors of the SQS API, each with its name in both protocols.

``code`` is the name in the JSON protocol, ``query_code`` that in the older query protocol, which
SDKs still show:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

from typing import ClassVar

from twolane_local.errors import LocalError


class SqsError(LocalError):
    """The SQS API refused a request."""

    code: ClassVar[str] = "InternalError"
    query_code: ClassVar[str] = "InternalError"
    #: The HTTP status of the query protocol; the JSON protocol always uses 400.
    query_status: ClassVar[int] = 400

    def __init_subclass__(cls, code: str, query_code: str = "", query_status: int = 400) -> None:
        cls.code, cls.query_code, cls.query_status = code, query_code or code, query_status

    @property
    def message(self) -> str:
        return str(self)


class ServiceUnavailableError(SqsError, code="ServiceUnavailable", query_status=503):
    """The service is unavailable. Try the request again."""


class QueueDoesNotExistError(
    SqsError, code="QueueDoesNotExist", query_code="AWS.SimpleQueueService.NonExistentQueue"
):
    """The specified queue does not exist."""


class QueueNameExistsError(SqsError, code="QueueNameExists", query_code="QueueAlreadyExists"):
    """A queue already exists with the same name and a different value for an attribute."""


class QueueDeletedRecentlyError(
    SqsError, code="QueueDeletedRecently", query_code="AWS.SimpleQueueService.QueueDeletedRecently"
):
    """Wait 60 seconds after deleting a queue before you create one with the same name."""


class PurgeQueueInProgressError(
    SqsError,
    code="PurgeQueueInProgress",
    query_code="AWS.SimpleQueueService.PurgeQueueInProgress",
    query_status=403,
):
    """Only one PurgeQueue operation on a queue is allowed every 60 seconds."""


class ReceiptHandleIsInvalidError(SqsError, code="ReceiptHandleIsInvalid"):
    """The input receipt handle is invalid."""


class OverLimitError(SqsError, code="OverLimit", query_status=403):
    """The maximum number of in-flight messages is reached; delete messages once processed."""


class InvalidMessageContentsError(SqsError, code="InvalidMessageContents"):
    """The message contains characters outside the allowed set."""


class InvalidAttributeNameError(SqsError, code="InvalidAttributeName"):
    """The specified attribute doesn't exist."""


class InvalidAttributeValueError(SqsError, code="InvalidAttributeValue"):
    """A queue attribute value is invalid."""


class InvalidAddressError(SqsError, code="InvalidAddress"):
    """The specified queue URL is not valid."""


class InvalidParameterValueError(
    SqsError, code="InvalidParameterValueException", query_code="InvalidParameterValue"
):
    """A parameter's value is out of its range."""


class MissingParameterError(
    SqsError, code="MissingRequiredParameterException", query_code="MissingParameter"
):
    """A required parameter is missing."""


class InvalidActionError(SqsError, code="UnknownOperationException", query_code="InvalidAction"):
    """The action is not one of the SQS API."""


class MalformedInputError(SqsError, code="SerializationException", query_code="MalformedInput"):
    """The request's body cannot be read."""


class UnsupportedOperationError(
    SqsError, code="UnsupportedOperation", query_code="AWS.SimpleQueueService.UnsupportedOperation"
):
    """The operation is not supported on this kind of queue."""


class ResourceNotFoundError(SqsError, code="ResourceNotFoundException", query_status=404):
    """One or more specified resources don't exist."""


class UnknownSourceError(SqsError, code="CouldNotDetermineMessageSource"):
    """A message cannot go back: it was sent to the dead-letter queue directly. Name a target."""


class TooManyEntriesInBatchRequestError(
    SqsError,
    code="TooManyEntriesInBatchRequest",
    query_code="AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
):
    """A batch request holds at most 10 entries."""


class EmptyBatchRequestError(
    SqsError, code="EmptyBatchRequest", query_code="AWS.SimpleQueueService.EmptyBatchRequest"
):
    """The batch request doesn't contain any entries."""


class BatchEntryIdsNotDistinctError(
    SqsError,
    code="BatchEntryIdsNotDistinct",
    query_code="AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
):
    """Two or more batch entries in the request have the same Id."""


class BatchRequestTooLongError(
    SqsError, code="BatchRequestTooLong", query_code="AWS.SimpleQueueService.BatchRequestTooLong"
):
    """The length of all the messages put together is more than the limit."""


class InvalidBatchEntryIdError(
    SqsError, code="InvalidBatchEntryId", query_code="AWS.SimpleQueueService.InvalidBatchEntryId"
):
    """A batch entry id has 1 to 80 alphanumeric characters, hyphens and underscores."""
