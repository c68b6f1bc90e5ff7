"""The errors of the SQS API: one table, with each error's name, status and text in both protocols.

``code`` is the name in the JSON protocol, as the service model has it, ``query_code`` that in the
older query protocol, which SDKs still show. The text is the docstring unless a call gives another.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
The statuses are those of the query protocol's service model; the JSON protocol uses the same.
"""

from __future__ import annotations

from typing import ClassVar

from twolane_local.errors import LocalError


class SqsError(LocalError):
    """The SQS API refused a request."""

    code: ClassVar[str] = "InternalError"
    query_code: ClassVar[str] = "InternalError"
    status: ClassVar[int] = 400
    #: The text in the query protocol, where it is another.
    query_text: ClassVar[str] = ""

    def __init_subclass__(
        cls, code: str, query_code: str = "", status: int = 400, query_text: str = ""
    ) -> None:
        cls.code, cls.query_code, cls.status = code, query_code or code, status
        cls.query_text = query_text

    @property
    def message(self) -> str:
        return str(self)

    @property
    def query_message(self) -> str:
        plain = self.message == type(self).__doc__
        return self.query_text if plain and self.query_text else self.message

    @property
    def fault(self) -> str:
        """Whose fault it is, as both protocols name it."""
        return "Sender" if self.status < 500 else "Receiver"


class ServiceUnavailableError(SqsError, code="ServiceUnavailable", status=503):
    """The service is unavailable. Try the request again."""


class QueueDoesNotExistError(
    SqsError,
    code="QueueDoesNotExist",
    query_code="AWS.SimpleQueueService.NonExistentQueue",
    query_text="The specified queue does not exist for this wsdl version.",
):
    """The specified queue does not exist."""


class QueueNameExistsError(SqsError, code="QueueNameExists", query_code="QueueAlreadyExists"):
    """A queue already exists with the same name and a different value for an attribute."""


class QueueDeletedRecentlyError(
    SqsError, code="QueueDeletedRecently", query_code="AWS.SimpleQueueService.QueueDeletedRecently"
):
    """You must wait 60 seconds after deleting a queue before you can create another with the same name."""  # noqa: E501 -- AWS's text


class PurgeQueueInProgressError(
    SqsError,
    code="PurgeQueueInProgress",
    query_code="AWS.SimpleQueueService.PurgeQueueInProgress",
    status=403,
):
    """Only one PurgeQueue operation on a queue is allowed every 60 seconds."""


class ReceiptHandleIsInvalidError(SqsError, code="ReceiptHandleIsInvalid"):
    """The input receipt handle is invalid."""


class OverLimitError(SqsError, code="OverLimit", status=403):
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


class MissingActionError(SqsError, code="MissingAction"):
    """The request is missing an action or a required parameter."""


class UnknownOperationError(SqsError, code="UnknownOperation", status=404):
    """A GET of a queue's address that names no action."""


class MalformedInputError(SqsError, code="SerializationException", query_code="MalformedInput"):
    """The request's body cannot be read."""


class ResourceNotFoundError(SqsError, code="ResourceNotFoundException", status=404):
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
    """A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."""  # noqa: E501 -- AWS's text
