"""Every error of SQS, by a call that gets it, on a socket in both protocols.

The names are those of the service model and of
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import inspect
import json

import botocore.session
import pytest

from twolane_local.aws.sqs import errors
from twolane_local.aws.sqs.errors import SqsError

from .wire import Wire, text

KINDS = {
    kind.code: kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, SqsError) and kind is not SqsError
}
HOST = "http://127.0.0.1"
Q = {"QueueUrl": f"{HOST}/123456789012/q"}
F = {"QueueUrl": f"{HOST}/123456789012/q.fifo"}
NO = {"QueueUrl": f"{HOST}/123456789012/nowhere"}
ARN = "arn:aws:sqs:us-east-1:123456789012:"
BATCH_ID = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be "
    "at most 80 letters long."
)
NOT_TEXT = (
    "Invalid binary character '#x8' was found in the {}, the set of allowed characters is #x9 | "
    "#xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
)


def entries(*ids, **more):
    return {"Entries": [{"Id": each, "MessageBody": "x", **more} for each in ids]}


def value(given, name, reason):
    return f"Value {given} for parameter {name} is invalid. Reason: {reason}"


def redrive(**policy):
    return json.dumps(policy, separators=(",", ":"))


NO_COUNT = redrive(deadLetterTargetArn=f"{ARN}q")
NO_TARGET = redrive(maxReceiveCount=3)
STRANGER = redrive(deadLetterTargetArn=f"{ARN}nowhere", maxReceiveCount=3)

#: Action, parameters, the error's name in the JSON protocol, its text.
TABLE = [
    ("GetQueueAttributes", NO, "QueueDoesNotExist", "The specified queue does not exist."),
    ("GetQueueUrl", {"QueueName": "nowhere"}, "QueueDoesNotExist",
     "The specified queue does not exist."),
    ("CreateQueue", {"QueueName": "q", "Attributes": {"DelaySeconds": "5"}}, "QueueNameExists",
     "A queue already exists with the same name and a different value for attribute DelaySeconds"),
    ("CreateQueue", {"QueueName": "gone"}, "QueueDeletedRecently",
     ("You must wait 60 seconds after deleting a queue before you can create another with the same "
     "name.")),
    ("CreateQueue", {"QueueName": "a/b"}, "InvalidParameterValueException",
     "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length"),
    ("PurgeQueue", {"QueueUrl": f"{HOST}/123456789012/purged"}, "PurgeQueueInProgress",
     "Only one PurgeQueue operation on purged is allowed every 60 seconds."),
    ("DeleteMessage", {**Q, "ReceiptHandle": "nonsense"}, "ReceiptHandleIsInvalid",
     'The input receipt handle "nonsense" is not a valid receipt handle.'),
    ("AddPermission", {**Q, "Label": "l", "AWSAccountIds": ["111122223333"],
                       "Actions": [f"Action{number}" for number in range(8)]},
     "OverLimit", "8 Actions were found, maximum allowed is 7."),
    ("RemovePermission", {**Q, "Label": "l"}, "InvalidParameterValueException",
     value("l", "Label", "can't find label.")),
    ("SendMessage", {**Q, "MessageBody": "\x08"}, "InvalidMessageContents",
     NOT_TEXT.format("message body")),
    ("SendMessage", {**Q, "MessageBody": "x", "MessageAttributes": {
        "a": {"DataType": "String", "StringValue": "\x08"}}},
     "InvalidParameterValueException", NOT_TEXT.format("message attribute 'a'")),
    ("SendMessage", {**Q, "MessageBody": "x", "MessageAttributes": {
        "a": {"DataType": "String", "StringValue": ""}}}, "InvalidParameterValueException",
     "Message (user) attribute 'a' must contain a non-empty value of type 'String'."),
    ("SendMessage", {**Q, "MessageBody": "x", "DelaySeconds": 901},
     "InvalidParameterValueException",
     value(901, "DelaySeconds", "DelaySeconds must be >= 0 and <= 900.")),
    ("SendMessage", {**Q, "MessageBody": "x" * 1025}, "InvalidParameterValueException",
     "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."),
    ("SendMessage", Q, "MissingRequiredParameterException",
     "The request must contain the parameter MessageBody."),
    ("SendMessage", {**F, "MessageBody": "x"}, "MissingRequiredParameterException",
     "The request must contain the parameter MessageGroupId."),
    # In a batch, these two refuse the whole request.
    ("SendMessageBatch", {**F, **entries("a")}, "InvalidParameterValueException",
     "The request must contain the parameter MessageGroupId."),
    ("SendMessageBatch", {**F, **entries("a", MessageGroupId="g")},
     "InvalidParameterValueException",
     ("The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId "
     "provided explicitly")),
    ("SendMessageBatch", Q, "EmptyBatchRequest",
     "There should be at least one SendMessageBatchRequestEntry in the request."),
    ("SendMessageBatch", {**Q, **entries(*"abcdefghijk")}, "TooManyEntriesInBatchRequest",
     "Maximum number of entries per request are 10. You have sent 11."),
    ("SendMessageBatch", {**Q, **entries("a", "a")}, "BatchEntryIdsNotDistinct", "Id a repeated."),
    ("SendMessageBatch", {**Q, **entries("a:b")}, "InvalidBatchEntryId", BATCH_ID),
    ("SendMessageBatch", {**Q, **entries("x" * 81)}, "InvalidBatchEntryId", BATCH_ID),
    ("DeleteMessageBatch", {**Q, "Entries": [{"Id": "", "ReceiptHandle": "h"}]},
     "InvalidBatchEntryId", BATCH_ID),
    ("SendMessageBatch", {**Q, "Entries": [{"Id": "a", "MessageBody": "x" * 1_048_577}]},
     "BatchRequestTooLong",
     "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."),
    ("ReceiveMessage", {**Q, "WaitTimeSeconds": 21}, "InvalidParameterValueException",
     value(21, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")),
    ("ReceiveMessage", {**Q, "WaitTimeSeconds": -1}, "InvalidParameterValueException",
     value(-1, "WaitTimeSeconds", "Must be >= 0 and <= 20, if provided.")),
    ("ReceiveMessage", {**Q, "MaxNumberOfMessages": 11}, "InvalidParameterValueException",
     value(11, "MaxNumberOfMessages", "Must be between 1 and 10, if provided.")),
    ("GetQueueAttributes", {**Q, "AttributeNames": ["Nope"]}, "InvalidAttributeName",
     "Unknown Attribute Nope."),
    ("SetQueueAttributes", {**Q, "Attributes": {"DelaySeconds": "901"}}, "InvalidAttributeValue",
     "Invalid value for the parameter DelaySeconds."),
    ("SetQueueAttributes", {**Q, "Attributes": {"FifoQueue": "true"}}, "InvalidAttributeName",
     "Unknown Attribute FifoQueue."),
    ("SetQueueAttributes", {**Q, "Attributes": {"DeduplicationScope": "queue"}},
     "InvalidAttributeName",
     "You can specify the DeduplicationScope only when FifoQueue is set to true."),
    ("SetQueueAttributes", {**F, "Attributes": {"FifoQueue": "false"}}, "InvalidAttributeValue",
     "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."),
    ("SetQueueAttributes",
     {**Q, "Attributes": {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "true"}},
     "InvalidAttributeName", ("You can use one type of server-side encryption (SSE) at one time. "
     "You can either enable KMS SSE or SQS SSE.")),
    ("SetQueueAttributes", {**Q, "Attributes": {"RedrivePolicy": NO_COUNT}},
     "InvalidParameterValueException", value(NO_COUNT, "RedrivePolicy",
     "Redrive policy does not contain mandatory attribute: maxReceiveCount.")),
    ("SetQueueAttributes", {**Q, "Attributes": {"RedrivePolicy": NO_TARGET}},
     "InvalidParameterValueException", value(NO_TARGET, "RedrivePolicy",
     "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.")),
    ("SetQueueAttributes", {**Q, "Attributes": {"RedrivePolicy": STRANGER}},
     "InvalidParameterValueException",
     value(STRANGER, "RedrivePolicy", "Dead letter target does not exist.")),
    ("DeleteQueue", {"QueueUrl": "/"}, "InvalidAddress",
     "The address / is not valid for this endpoint."),
    ("StartMessageMoveTask", {"SourceArn": f"{ARN}nowhere"}, "ResourceNotFoundException",
     "The resource that you specified for the SourceArn parameter doesn't exist."),
    ("StartMessageMoveTask", {"SourceArn": f"{ARN}q"}, "InvalidParameterValueException",
     "Source queue must be configured as a Dead Letter Queue."),
    ("CancelMessageMoveTask", {"TaskHandle": "nonsense"}, "InvalidParameterValueException",
     "Value for parameter TaskHandle is invalid."),
    ("Nope", {}, "UnknownOperationException", "The action Nope is not valid for this endpoint."),
]  # fmt: skip

#: Errors that no call of the table gets, and the reason.
ELSEWHERE = {
    "CouldNotDetermineMessageSource": "the FailureReason of a message move task",
    "ServiceUnavailable": "the disk of --persist is full: test_persistence.py",
    "MissingAction": "the query protocol alone: test_as_aws.py",
    "UnknownOperation": "the query protocol alone: test_as_aws.py",
    "SerializationException": "the JSON protocol alone: test_api.py",
}
#: Errors of the service model that the emulator never has.
NEVER = {
    "InvalidIdFormat": "deprecated: 'The specified receipt handle isn't valid for the current "
    "version'",
    "InvalidSecurity": "calls without TLS are taken here",
    "KmsAccessDenied": "no key is used",
    "KmsDisabled": "no key is used",
    "KmsInvalidKeyUsage": "no key is used",
    "KmsInvalidState": "no key is used",
    "KmsNotFound": "no key is used",
    "KmsOptInRequired": "no key is used",
    "KmsThrottled": "no key is used",
    "MessageNotInflight": "SQS answers InvalidParameterValue: test_as_aws.py",
    "RequestThrottled": "there is no limit of requests",
    "UnsupportedOperation": "no page says when",
}


@pytest.fixture(scope="module")
def wire():
    wire = Wire()
    queues = wire.queues
    queues.create("q", {"MaximumMessageSize": "1024"})
    queues.create("q.fifo", {"FifoQueue": "true"})
    queues.create("gone")
    queues.delete_queue("gone")
    queues.create("purged")
    queues.purge("purged")
    yield wire
    wire.close()


@pytest.mark.parametrize(("action", "params", "code", "message"), TABLE)
def test_an_error_in_both_protocols(wire, action, params, code, message):
    kind = KINDS[code]
    status, answer = wire.json(action, params)
    assert (status, answer["message"]) == (kind.status, message)
    space = "com.amazonaws.sqs"
    if code.endswith("Exception") and code != "ResourceNotFoundException":
        space = "com.amazon.coral.service"
    assert answer["__type"] == f"{space}#{code}"
    status, document = wire.query(action, params)
    if code == "QueueDoesNotExist":
        message = "The specified queue does not exist for this wsdl version."
    assert (status, text(document, "Code"), text(document, "Message"), text(document, "Type")) == (
        kind.status, kind.query_code, message, "Sender",
    )  # fmt: skip


def test_the_table_knows_every_error_of_the_service_model():
    model = {error.name for error in botocore.session.get_session().get_service_model("sqs")
             .error_shapes}  # fmt: skip
    shown = {code for _, _, code, _ in TABLE}
    assert shown | ELSEWHERE.keys() == KINDS.keys()
    assert not shown & ELSEWHERE.keys()
    assert model <= shown | NEVER.keys()
    assert NEVER.keys() <= model - shown


def test_each_error_has_its_own_name_and_says_what_is_wrong():
    assert len({kind.query_code for kind in KINDS.values()}) == len(KINDS)
    for kind in KINDS.values():
        assert kind().message
        assert "\n" not in kind().message
        assert kind("own words").message == "own words"
