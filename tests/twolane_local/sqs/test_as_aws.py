"""What SQS answers where clients notice it, on a socket in both protocols.

Where no page says it, the behaviour is that of public tests that passed against AWS; see
tests/aws_suites.
"""

from __future__ import annotations

import contextlib
import json
import time
from itertools import count
from urllib.parse import urlencode

import boto3
import pytest
from botocore.config import Config

from .wire import NAMESPACE, Wire, flat, text

FORM = "application/x-www-form-urlencoded"
ACCOUNT = "123456789012"
FIFO = {"FifoQueue": "true"}
_number = count()


@pytest.fixture(scope="module")
def wire():
    wire = Wire()
    yield wire
    wire.close()


@pytest.fixture(params=["json", "query"])
def call(wire, request):
    """A call that succeeds, in each of the protocols; ``None`` or the texts of some members."""
    protocol = getattr(wire, request.param)

    def call(action, params, **options):
        status, answer = protocol(action, params, **options)
        assert status == 200, answer
        return answer

    call.protocol = protocol
    return call


@pytest.fixture
def make(wire):
    """Creates a queue with a name of its own, and returns its address."""
    made = []

    def make(suffix="", **attributes):
        name = f"q{next(_number)}{suffix}"
        wire.queues.create(name, {key: str(value) for key, value in attributes.items()})
        made.append(name)
        return f"{wire.url}/{ACCOUNT}/{name}"

    yield make
    for name in made:
        wire.queues.delete_queue(name, name_is_free=True)


@pytest.fixture
def sqs(wire):
    with contextlib.closing(client(wire)) as made:
        yield made


def client(wire, region="us-east-1", key="test"):
    return boto3.client(
        "sqs", endpoint_url=wire.url, region_name=region, aws_access_key_id=key,
        aws_secret_access_key="test", config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def bodies(answer):
    return [message["Body"] for message in answer.get("Messages", [])]


# Answers.


def test_a_batch_without_failures_names_none(wire, make):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html"""
    entries = [{"Id": "a", "MessageBody": "x"}]
    status, answer = wire.json("SendMessageBatch", {"QueueUrl": make(), "Entries": entries})
    assert status == 200
    assert answer.keys() == {"Successful"}
    long = {"Id": "b", "MessageBody": "x" * 1_025}
    asked = {"QueueUrl": make(MaximumMessageSize=1_024), "Entries": [*entries, long]}
    _, answer = wire.json("SendMessageBatch", asked)
    assert [failed["Message"] for failed in answer["Failed"]] == [
        (
            "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 "
            "bytes."
        )
    ]


def test_accept_decides_between_xml_and_json(wire, make):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html

    The JSON is that of an API Gateway integration with SQS.
    """
    url = make()
    path = url.removeprefix(wire.url)

    def get(accept, at=path, **params):
        status, headers, body = wire.http("GET", f"{at}?{urlencode(params)}", accept=accept)
        return status, headers["content-type"], body

    def as_json(**params):
        status, content_type, body = get("application/json", **params)
        assert content_type == "application/json"
        return status, json.loads(body)

    status, sent = as_json(Action="SendMessage", MessageBody='a"\r')
    assert status == 200
    assert sent["SendMessageResponse"]["SendMessageResult"]["MessageId"]
    assert sent["SendMessageResponse"]["ResponseMetadata"]["RequestId"]
    _, received = as_json(Action="ReceiveMessage")
    (message,) = received["ReceiveMessageResponse"]["ReceiveMessageResult"]["messages"]
    assert message["Body"] == 'a"\r'
    _, none = as_json(Action="ReceiveMessage")
    assert none["ReceiveMessageResponse"]["ReceiveMessageResult"] == {"messages": None}
    _, found = as_json(**{"Action": "GetQueueAttributes", "AttributeName.1": "DelaySeconds"})
    assert found["GetQueueAttributesResponse"]["GetQueueAttributesResult"] == {
        "Attributes": [{"Name": "DelaySeconds", "Value": "0"}]
    }
    _, deleted = as_json(Action="PurgeQueue")
    assert deleted["PurgeQueueResponse"].keys() == {"ResponseMetadata"}
    status, error = as_json(Action="ListQueues")
    assert (status, error["Error"]["Code"]) == (400, "InvalidAction")
    _, _, body = get("application/json", "/", Action="ListQueues")
    assert url in json.loads(body)["ListQueuesResponse"]["ListQueuesResult"]["queueUrls"]
    for accept in ("*/*", "text/xml", ""):
        assert get(accept, Action="PurgeQueue")[1] == "text/xml"


def test_actions_at_the_address_of_a_queue(wire, make):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-xml.html"""
    url, other = make(), make()
    path = url.removeprefix(wire.url)

    def post(form):
        status, _, body = wire.http("POST", path, form, content_type=FORM)
        return status, body.decode()

    for action in ("CreateQueue", "ListQueues"):
        status, body = post(f"Action={action}&QueueName=new")
        assert status == 400
        assert f"<Message>The action {action} is not valid for this endpoint.</Message>" in body
    name = other.rpartition("/")[2]
    assert f"<QueueUrl>{other}</QueueUrl>" in post(f"Action=GetQueueUrl&QueueName={name}")[1]
    arn = post(
        "Action=GetQueueAttributes&AttributeName.1=QueueArn&" + urlencode({"QueueUrl": other})
    )
    assert name in arn[1]


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_a_get_without_an_action_is_404(wire, make, accept):
    path = make().removeprefix(wire.url)
    status, headers, body = wire.http("GET", path, accept=accept)
    assert (status, headers["content-type"]) == (404, "text/xml")
    assert b"<UnknownOperationException/>" in body
    status, _, body = wire.http("POST", path, "", content_type=FORM)
    assert (status, b"<Code>MissingAction</Code>" in body) == (400, True)


def test_the_request_s_trace_header_becomes_that_of_the_message(wire, make, call):
    """https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html"""
    url, trace = make(), "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    entries = [{"Id": "a", "MessageBody": "x"}]
    call("SendMessage", {"QueueUrl": url, "MessageBody": "x"}, x_amzn_trace_id=trace)
    call("SendMessageBatch", {"QueueUrl": url, "Entries": entries}, x_amzn_trace_id=trace)
    asked = {"QueueUrl": url, "MaxNumberOfMessages": 10, "AttributeNames": ["AWSTraceHeader"]}
    _, answer = wire.json("ReceiveMessage", asked)
    assert [message["Attributes"] for message in answer["Messages"]] == [
        {"AWSTraceHeader": trace}
    ] * 2


@pytest.mark.parametrize("names", [["*"], ["All"], [".*"], ["attr.*"], ["attr.1øßä"]])
def test_attributes_by_name_and_names_that_are_not_ascii(sqs, make, names):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"""
    given = {"attr.1øßä": {"DataType": "String", "StringValue": "ü"}}
    url = make()
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes=given)
    (received,) = sqs.receive_message(QueueUrl=url, MessageAttributeNames=names)["Messages"]
    assert received["MessageAttributes"] == given


# Receipts.


def test_an_older_handle_and_an_expired_one_change_visibility(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html"""
    url = make()
    call("SendMessage", {"QueueUrl": url, "MessageBody": "x"})

    def receive(visibility):
        asked = {"QueueUrl": url, "VisibilityTimeout": visibility}
        return wire.json("ReceiveMessage", asked)[1].get("Messages", [])

    def change(handle, seconds):
        call(
            "ChangeMessageVisibility",
            {"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": seconds},
        )

    expired = receive(0)[0]["ReceiptHandle"]
    change(expired, 30)
    assert receive(0) == []
    change(expired, 0)
    assert len(receive(30)) == 1
    change(expired, 0)  # older now
    (last,) = receive(30)
    call("DeleteMessage", {"QueueUrl": url, "ReceiptHandle": last["ReceiptHandle"]})
    asked = {"QueueUrl": url, "ReceiptHandle": expired, "VisibilityTimeout": 0}
    status, answer = wire.json("ChangeMessageVisibility", asked)
    assert (status, answer["__type"].partition("#")[2]) == (400, "InvalidParameterValueException")
    assert answer["message"].endswith(
        "Reason: Message does not exist or is not available for visibility timeout change."
    )


# FIFO.


def test_a_purge_forgets_deduplication_ids(wire, make, call):
    url = make(".fifo", **FIFO)
    new = {"QueueUrl": url, "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    call("SendMessage", {**new, "MessageBody": "before"})
    call("PurgeQueue", {"QueueUrl": url})
    call("SendMessage", {**new, "MessageBody": "after"})
    assert bodies(wire.json("ReceiveMessage", {"QueueUrl": url})[1]) == ["after"]


def test_a_batch_that_lacks_an_id_sends_nothing(wire, make):
    url = make(".fifo", **FIFO)
    good = {"Id": "1", "MessageBody": "x", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    for missing in ("MessageGroupId", "MessageDeduplicationId"):
        bad = {key: value for key, value in good.items() if key != missing} | {"Id": "2"}
        asked = {"QueueUrl": url, "Entries": [good, bad]}
        for protocol in (wire.json, wire.query):
            assert protocol("SendMessageBatch", asked)[0] == 400
    assert wire.json("ReceiveMessage", {"QueueUrl": url})[1] == {}


def test_high_throughput_takes_effect_when_it_is_set(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/high-throughput-fifo.html"""
    url = make(".fifo", **FIFO)

    def send(group, expected):
        new = {"QueueUrl": url, "MessageGroupId": group, "MessageDeduplicationId": "d"}
        call("SendMessage", {**new, "MessageBody": group})
        received = wire.json("ReceiveMessage", {"QueueUrl": url})[1]
        assert bodies(received) == expected

    def configure(**attributes):
        return call.protocol("SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})[0]

    send("a", ["a"])
    send("b", [])
    assert configure(FifoThroughputLimit="perMessageGroupId") == 400
    # In one call or in two.
    assert configure(DeduplicationScope="messageGroup") == 200
    assert configure(FifoThroughputLimit="perMessageGroupId") == 200
    send("c", ["c"])
    send("d", ["d"])
    assert configure(DeduplicationScope="queue") == 400


# Encryption, policies.


def test_one_kind_of_encryption_at_a_time(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-server-side-encryption.html"""
    url = make()
    names = ["KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled"]

    def after(**attributes):
        call("SetQueueAttributes", {"QueueUrl": url, "Attributes": attributes})
        return wire.json("GetQueueAttributes", {"QueueUrl": url, "AttributeNames": names})[1]

    with_key = {"KmsMasterKeyId": "k", "SqsManagedSseEnabled": "false"}
    assert after(KmsMasterKeyId="k")["Attributes"] == {
        **with_key, "KmsDataKeyReusePeriodSeconds": "300",
    }  # fmt: skip
    assert after(KmsDataKeyReusePeriodSeconds="6000")["Attributes"] == {
        **with_key, "KmsDataKeyReusePeriodSeconds": "6000",
    }  # fmt: skip
    assert after(KmsMasterKeyId="")["Attributes"] == {"SqsManagedSseEnabled": "false"}
    after(KmsMasterKeyId="k")
    assert after(SqsManagedSseEnabled="true")["Attributes"] == {"SqsManagedSseEnabled": "true"}


def test_permissions_are_written_into_the_policy(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_AddPermission.html"""
    url = make()
    arn = wire.queues.arn(url.rpartition("/")[2])
    for label, accounts, actions in (
        ("one", ["111122223333"], ["SendMessage"]),
        ("two", ["111122223333", "444455556666"], ["ReceiveMessage", "SendMessage"]),
    ):
        call(
            "AddPermission",
            {"QueueUrl": url, "Label": label, "AWSAccountIds": accounts, "Actions": actions},
        )
    asked = {"QueueUrl": url, "AttributeNames": ["Policy"]}
    policy = json.loads(wire.json("GetQueueAttributes", asked)[1]["Attributes"]["Policy"])
    assert policy == {
        "Version": "2008-10-17",
        "Id": f"{arn}/SQSDefaultPolicy",
        "Statement": [
            {
                "Sid": "one",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
                "Action": "SQS:SendMessage",
                "Resource": arn,
            },
            {
                "Sid": "two",
                "Effect": "Allow",
                "Principal": {
                    "AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::444455556666:root"]
                },
                "Action": ["SQS:ReceiveMessage", "SQS:SendMessage"],
                "Resource": arn,
            },
        ],
    }
    for label in ("one", "two"):
        call("RemovePermission", {"QueueUrl": url, "Label": label})
    assert wire.json("GetQueueAttributes", asked)[1] == {}


# Sixty seconds.


def test_a_name_is_free_a_minute_after_its_queue_was_deleted(wire, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html"""
    name = f"q{next(_number)}"
    call("CreateQueue", {"QueueName": name})
    call("DeleteQueue", {"QueueUrl": name})
    wire.clock.added += 50
    assert call.protocol("CreateQueue", {"QueueName": name})[0] == 400
    wire.clock.added += 11
    call("CreateQueue", {"QueueName": name})


def test_a_queue_can_be_purged_once_a_minute(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_PurgeQueue.html"""
    url = make()
    call("PurgeQueue", {"QueueUrl": url})
    wire.clock.added += 50
    assert call.protocol("PurgeQueue", {"QueueUrl": url})[0] == 403
    wire.clock.added += 11
    call("PurgeQueue", {"QueueUrl": url})


# Regions and accounts.


def test_queues_of_two_regions_are_apart(wire):
    """https://docs.aws.amazon.com/general/latest/gr/sqs-service.html"""
    name = f"q{next(_number)}"
    with contextlib.ExitStack() as stack:
        home, away = (
            stack.enter_context(contextlib.closing(client(wire, region)))
            for region in ("us-east-1", "eu-west-1")
        )
        with pytest.raises(away.exceptions.QueueDoesNotExist):
            away.get_queue_url(QueueName=name)
        near = home.create_queue(QueueName=name)["QueueUrl"]
        far = away.create_queue(QueueName=name, Attributes={"DelaySeconds": "1"})["QueueUrl"]
        assert near == f"{wire.url}/{ACCOUNT}/{name}"
        assert far == f"{wire.url}/queue/eu-west-1/{ACCOUNT}/{name}"
        assert near in home.list_queues()["QueueUrls"]
        assert away.list_queues()["QueueUrls"] == [far]
        arn = away.get_queue_attributes(QueueUrl=far, AttributeNames=["QueueArn"])["Attributes"]
        assert arn == {"QueueArn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}"}
        home.send_message(QueueUrl=near, MessageBody="near")
        away.send_message(QueueUrl=far, MessageBody="far", DelaySeconds=0)
        assert bodies(away.receive_message(QueueUrl=far, WaitTimeSeconds=1)) == ["far"]
        assert bodies(home.receive_message(QueueUrl=near)) == ["near"]
        # A bare name is one of the caller's region; an address is one wherever it is used.
        away.send_message(QueueUrl=name, MessageBody="by name", DelaySeconds=0)
        assert bodies(home.receive_message(QueueUrl=far)) == ["by name"]
        form = urlencode({"Action": "ReceiveMessage", "QueueUrl": far})
        assert wire.http("POST", "/", form, content_type=FORM)[0] == 200
        # A dead-letter queue is in the same region as its queue.
        policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 1})
        with pytest.raises(home.exceptions.ClientError, match="Dead letter target"):
            home.set_queue_attributes(QueueUrl=near, Attributes={"RedrivePolicy": policy})
        away.delete_queue(QueueUrl=far)
        with pytest.raises(away.exceptions.QueueDoesNotExist):
            away.get_queue_attributes(QueueUrl=far)
        home.delete_queue(QueueUrl=near)


def test_dead_letters_stay_in_their_region(wire):
    name = f"q{next(_number)}"
    with contextlib.closing(client(wire, "ap-south-1")) as away:
        dead = away.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = f"arn:aws:sqs:ap-south-1:{ACCOUNT}:{name}-dead"
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1})
        url = away.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
        assert away.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [url]
        away.send_message(QueueUrl=url, MessageBody="x")
        assert bodies(away.receive_message(QueueUrl=url, VisibilityTimeout=0)) == ["x"]
        assert bodies(away.receive_message(QueueUrl=url)) == []
        away.start_message_move_task(SourceArn=arn)
        assert bodies(away.receive_message(QueueUrl=url, WaitTimeSeconds=5)) == ["x"]


def test_queues_of_two_accounts_are_apart(wire):
    """An access key that is an account's number is that account's."""
    name, other = f"q{next(_number)}", "111122223333"
    with contextlib.ExitStack() as stack:
        mine, theirs = (
            stack.enter_context(contextlib.closing(client(wire, key=key)))
            for key in ("test", other)
        )
        near = mine.create_queue(QueueName=name)["QueueUrl"]
        with pytest.raises(theirs.exceptions.QueueDoesNotExist):
            theirs.get_queue_attributes(QueueUrl=f"{wire.url}/{other}/{name}")
        far = theirs.create_queue(QueueName=name)["QueueUrl"]
        assert far == f"{wire.url}/{other}/{name}"
        assert theirs.list_queues()["QueueUrls"] == [far]
        theirs.send_message(QueueUrl=far, MessageBody="theirs")
        assert bodies(mine.receive_message(QueueUrl=near)) == []
        assert bodies(mine.receive_message(QueueUrl=far)) == ["theirs"]
        owned = mine.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=other)["QueueUrl"]
        assert owned == far
        theirs.delete_queue(QueueUrl=far)
        with pytest.raises(theirs.exceptions.QueueDoesNotExist):
            theirs.get_queue_attributes(QueueUrl=far)


def test_the_template_s_own_queues_are_found_from_every_region_and_account(wire):
    """An application's settings hold the region and the account that it is deployed to."""
    name, account = f"q{next(_number)}", "444455556666"
    wire.queues.ensure(name)
    with contextlib.closing(client(wire, "eu-north-1", account)) as sqs:
        url = f"{wire.url}/{ACCOUNT}/{name}"
        assert sqs.list_queues()["QueueUrls"] == [url]
        assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == url
        assert sqs.create_queue(QueueName=name)["QueueUrl"] == url
        written = f"https://sqs.eu-north-1.amazonaws.com/{account}/{name}"
        sqs.send_message(QueueUrl=written, MessageBody="x")
        assert bodies(sqs.receive_message(QueueUrl=url)) == ["x"]


def test_an_address_with_a_region_needs_no_credentials(wire):
    wire.queues.create(f"eu-west-1:{ACCOUNT}:open")
    query = urlencode({"Action": "GetQueueAttributes", **flat({"AttributeNames": ["QueueArn"]})})
    path = f"/queue/eu-west-1/{ACCOUNT}/open"
    status, _, body = wire.http("GET", f"{path}?{query}", authorization="")
    assert status == 200
    assert f"arn:aws:sqs:eu-west-1:{ACCOUNT}:open" in body.decode()


def test_waits_are_as_long_as_asked_for(wire, make, call):
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html"""
    start = time.monotonic()
    answer = call("ReceiveMessage", {"QueueUrl": make(), "WaitTimeSeconds": 1})
    assert time.monotonic() - start >= 0.9
    if not isinstance(answer, dict):
        assert answer.find(f"{NAMESPACE}ReceiveMessageResult") is not None
        assert text(answer, "Message") is None
