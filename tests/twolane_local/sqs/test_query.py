"""The older protocol, with literal forms and answers."""

from __future__ import annotations

import asyncio

import pytest

from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs.api import SqsApi, parse
from twolane_local.aws.sqs.service import NewMessage

NS = 'xmlns="http://queue.amazonaws.com/doc/2012-11-05/"'
META = "<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"


@pytest.fixture
def call(queues):
    api = SqsApi(queues)

    def call(form, path="/", status=200):
        request = AwsRequest(
            "POST", path, "", {"host": "localhost:4566"}, form.encode(), request_id="r"
        )
        response = asyncio.run(api(request))
        assert (response.status, response.headers["content-type"]) == (status, "text/xml")
        return response.body.decode().removeprefix('<?xml version="1.0"?>')

    return call


def test_create_send_receive_delete(call, queues):
    assert call(
        "Action=CreateQueue&QueueName=q&Attribute.1.Name=DelaySeconds&Attribute.1.Value=0"
        "&Tag.1.Key=team&Tag.1.Value=a%26b"
    ) == (
        f"<CreateQueueResponse {NS}><CreateQueueResult>"
        "<QueueUrl>http://localhost:4566/123456789012/q</QueueUrl>"
        f"</CreateQueueResult>{META}</CreateQueueResponse>"
    )
    assert queues.get("q").tags == {"team": "a&b"}
    answer = call(
        "Action=SendMessage&MessageBody=%3Ca%3E%0D%0A&MessageAttribute.1.Name=n&"
        "MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v",
        "/123456789012/q",
    )
    message = next(iter(queues.get("q"))).message
    assert message.body == "<a>\r\n"
    assert answer == (
        f"<SendMessageResponse {NS}><SendMessageResult>"
        f"<MD5OfMessageBody>{message.md5_of_body}</MD5OfMessageBody>"
        f"<MD5OfMessageAttributes>{message.md5_of_attributes}</MD5OfMessageAttributes>"
        f"<MessageId>{message.id}</MessageId></SendMessageResult>{META}</SendMessageResponse>"
    )
    answer = call(
        "Action=ReceiveMessage&QueueUrl=http://x/123456789012/q&AttributeName.1=SentTimestamp&"
        "MessageAttributeName.1=All&MaxNumberOfMessages=10"
    )
    handle = next(iter(queues.get("q"))).receipt
    assert answer == (
        f"<ReceiveMessageResponse {NS}><ReceiveMessageResult><Message>"
        f"<MessageId>{message.id}</MessageId><ReceiptHandle>{handle}</ReceiptHandle>"
        f"<MD5OfBody>{message.md5_of_body}</MD5OfBody><Body>&lt;a&gt;&#xD;\n</Body>"
        "<Attribute><Name>SentTimestamp</Name><Value>1767225600000</Value></Attribute>"
        f"<MD5OfMessageAttributes>{message.md5_of_attributes}</MD5OfMessageAttributes>"
        "<MessageAttribute><Name>n</Name><Value><StringValue>v</StringValue>"
        "<DataType>String</DataType></Value></MessageAttribute></Message>"
        f"</ReceiveMessageResult>{META}</ReceiveMessageResponse>"
    )
    form = f"Action=DeleteMessage&ReceiptHandle={handle.replace('=', '%3D').replace('+', '%2B')}"
    assert call(form, "/123456789012/q") == (
        f"<DeleteMessageResponse {NS}>{META}</DeleteMessageResponse>"
    )
    assert len(queues.get("q")) == 0


def test_a_batch(call, queues):
    queues.create("q")
    answer = call(
        "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&"
        "SendMessageBatchRequestEntry.1.MessageBody=x&SendMessageBatchRequestEntry.2.Id=b&"
        "SendMessageBatchRequestEntry.2.MessageBody=y&SendMessageBatchRequestEntry.2.DelaySeconds=x",
        "/123456789012/q",
    )
    message = next(iter(queues.get("q"))).message
    assert answer == (
        f"<SendMessageBatchResponse {NS}><SendMessageBatchResult>"
        f"<SendMessageBatchResultEntry><Id>a</Id><MD5OfMessageBody>{message.md5_of_body}"
        f"</MD5OfMessageBody><MessageId>{message.id}</MessageId></SendMessageBatchResultEntry>"
        "<BatchResultErrorEntry><Id>b</Id><SenderFault>true</SenderFault>"
        "<Code>InvalidParameterValue</Code><Message>DelaySeconds must be an integer.</Message>"
        f"</BatchResultErrorEntry></SendMessageBatchResult>{META}</SendMessageBatchResponse>"
    )


def test_lists_and_maps(call, queues):
    for name in ("one", "two"):
        queues.create(name)
    assert call("Action=ListQueues") == (
        f"<ListQueuesResponse {NS}><ListQueuesResult>"
        "<QueueUrl>http://localhost:4566/123456789012/one</QueueUrl>"
        "<QueueUrl>http://localhost:4566/123456789012/two</QueueUrl>"
        f"</ListQueuesResult>{META}</ListQueuesResponse>"
    )
    queues.send("one", NewMessage("x"))
    assert call(
        "Action=GetQueueAttributes&AttributeName.1=ApproximateNumberOfMessages",
        "/123456789012/one",
    ) == (
        f"<GetQueueAttributesResponse {NS}><GetQueueAttributesResult><Attribute>"
        "<Name>ApproximateNumberOfMessages</Name><Value>1</Value></Attribute>"
        f"</GetQueueAttributesResult>{META}</GetQueueAttributesResponse>"
    )


def test_a_result_without_members_is_there_all_the_same(call, queues):
    queues.create("q")
    assert call("Action=ReceiveMessage", "/123456789012/q") == (
        f"<ReceiveMessageResponse {NS}><ReceiveMessageResult/>{META}</ReceiveMessageResponse>"
    )


def test_an_error(call):
    assert call("Action=PurgeQueue", "/123456789012/nowhere", 400) == (
        f"<ErrorResponse {NS}><Error><Type>Sender</Type>"
        "<Code>AWS.SimpleQueueService.NonExistentQueue</Code>"
        "<Message>The specified queue does not exist for this wsdl version.</Message>"
        "<Detail/></Error>"
        "<RequestId>r</RequestId></ErrorResponse>"
    )
    arn = "arn:aws:sqs:us-east-1:123456789012:nowhere"
    answer = call(f"Action=StartMessageMoveTask&SourceArn={arn}", status=404)
    assert "<Code>ResourceNotFoundException</Code>" in answer
    assert "<Code>InvalidAction</Code>" in call("Action=Nope", status=400)
    assert "<Code>MissingAction</Code>" in call("", status=400)


def test_parameters_come_from_the_query_string_too_and_lists_in_numeric_order():
    action, params = parse(
        "Action=UntagQueue&TagKey.10=j&TagKey.9=i", b"QueueUrl=http://h/1/q&Version=2012-11-05"
    )
    assert action == "UntagQueue"
    assert params == {
        "TagKeys": ["i", "j"],
        "QueueUrl": "http://h/1/q",
        "Version": "2012-11-05",
    }
    assert parse("Action=SetQueueAttributes&Attribute.Name=a&Attribute.Value=b", b"")[1] == {
        "Attributes": {"a": "b"}
    }


@pytest.mark.parametrize("form", ["A.1=x&A=y&A.2=z", "Attribute.1=x", ".=.&..a=b"])
def test_a_confused_form_is_no_crash(form):
    parse("Action=SendMessage&" + form, b"")
