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

    @property
    def message(self) -> str:
        return str(self)


class ServiceUnavailableError(SqsError):
    """The service is unavailable. Try the request again."""

    code = query_code = "ServiceUnavailable"
    query_status = 503


class QueueDoesNotExistError(SqsError):
    """The specified queue does not exist."""

    code = "QueueDoesNotExist"
    query_code = "AWS.SimpleQueueService.NonExistentQueue"


class QueueNameExistsError(SqsError):
    """A queue already exists with the same name and a different value for an attribute."""

    code = "QueueNameExists"
    query_code = "QueueAlreadyExists"


class QueueDeletedRecentlyError(SqsError):
    """Wait 60 seconds after deleting a queue before you create one with the same name."""

    code = "QueueDeletedRecently"
    query_code = "AWS.SimpleQueueService.QueueDeletedRecently"


class PurgeQueueInProgressError(SqsError):
    """Only one PurgeQueue operation on a queue is allowed every 60 seconds."""

    code = "PurgeQueueInProgress"
    query_code = "AWS.SimpleQueueService.PurgeQueueInProgress"
    query_status = 403


class ReceiptHandleIsInvalidError(SqsError):
    """The input receipt handle is invalid."""

    code = query_code = "ReceiptHandleIsInvalid"


class MessageNotInflightError(SqsError):
    """The message referred to isn't in flight."""

    code = "MessageNotInflight"
    query_code = "AWS.SimpleQueueService.MessageNotInflight"


class OverLimitError(SqsError):
    """The maximum number of in-flight messages is reached; delete messages once processed."""

    code = query_code = "OverLimit"
    query_status = 403


class InvalidMessageContentsError(SqsError):
    """The message contains characters outside the allowed set."""

    code = query_code = "InvalidMessageContents"


class InvalidAttributeNameError(SqsError):
    """The specified attribute doesn't exist."""

    code = query_code = "InvalidAttributeName"


class InvalidAttributeValueError(SqsError):
    """A queue attribute value is invalid."""

    code = query_code = "InvalidAttributeValue"


class InvalidAddressError(SqsError):
    """The specified queue URL is not valid."""

    code = query_code = "InvalidAddress"


class InvalidParameterValueError(SqsError):
    """A parameter's value is out of its range."""

    code = "InvalidParameterValueException"
    query_code = "InvalidParameterValue"


class MissingParameterError(SqsError):
    """A required parameter is missing."""

    code = "MissingRequiredParameterException"
    query_code = "MissingParameter"


class InvalidActionError(SqsError):
    """The action is not one of the SQS API."""

    code = "UnknownOperationException"
    query_code = "InvalidAction"


class MalformedInputError(SqsError):
    """The request's body cannot be read."""

    code = "SerializationException"
    query_code = "MalformedInput"


class UnsupportedOperationError(SqsError):
    """The operation is not supported on this kind of queue."""

    code = "UnsupportedOperation"
    query_code = "AWS.SimpleQueueService.UnsupportedOperation"


class ResourceNotFoundError(SqsError):
    """One or more specified resources don't exist."""

    code = query_code = "ResourceNotFoundException"
    query_status = 404


class UnknownSourceError(SqsError):
    """A message cannot go back: it was sent to the dead-letter queue directly. Name a target."""

    code = query_code = "CouldNotDetermineMessageSource"


class TooManyEntriesInBatchRequestError(SqsError):
    """A batch request holds at most 10 entries."""

    code = "TooManyEntriesInBatchRequest"
    query_code = "AWS.SimpleQueueService.TooManyEntriesInBatchRequest"


class EmptyBatchRequestError(SqsError):
    """The batch request doesn't contain any entries."""

    code = "EmptyBatchRequest"
    query_code = "AWS.SimpleQueueService.EmptyBatchRequest"


class BatchEntryIdsNotDistinctError(SqsError):
    """Two or more batch entries in the request have the same Id."""

    code = "BatchEntryIdsNotDistinct"
    query_code = "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"


class BatchRequestTooLongError(SqsError):
    """The length of all the messages put together is more than the limit."""

    code = "BatchRequestTooLong"
    query_code = "AWS.SimpleQueueService.BatchRequestTooLong"


class InvalidBatchEntryIdError(SqsError):
    """A batch entry id has 1 to 80 alphanumeric characters, hyphens and underscores."""

    code = "InvalidBatchEntryId"
    query_code = "AWS.SimpleQueueService.InvalidBatchEntryId"
