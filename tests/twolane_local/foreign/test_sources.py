"""Rules, topics, buckets, aliases and schedules of other people's templates, each one called."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.aws.scheduler.targets import Firing, deliver

from .seen import run

if TYPE_CHECKING:
    from .seen import Project

pytestmark = pytest.mark.slow
WORKFLOW = "arn:aws:states:us-east-1:123456789012:stateMachine:flow"
IP_SPACE = "arn:aws:sns:us-east-1:806199016981:AmazonIpSpaceChanged"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:"


async def put(project: Project, source: str, detail: Any, **entry: Any) -> None:
    """One event; the call must succeed, whatever a target is."""
    given = {"Source": source, "DetailType": "Order", "Detail": json.dumps(detail), **entry}
    answer = await project.call("events", "put_events", Entries=[given])
    assert answer["FailedEntryCount"] == 0


ORDER = {"total": 500, "from": "10.1.2.3", "file": "a.csv", "id": "o-1"}


def test_rules() -> None:
    async def script(project: Project) -> None:
        assert project.notes == [
            ("ToWorkflow", f"ToWorkflow is not emulated: nothing is sent to {WORKFLOW}")
        ]
        shop = {"EventBusName": "shop"}
        for missed in (
            {**ORDER, "total": 1001},
            {**ORDER, "coupon": "x"},
            {**ORDER, "from": "11.0.0.1"},
            {**ORDER, "file": "a.txt"},
        ):
            await put(project, "my.shop", missed, **shop)
        await put(project, "my.shop", ORDER, DetailType="OrderTest", **shop)
        await put(project, "your.shop", ORDER, **shop)
        await put(project, "my.shop", ORDER)  # the default bus has no such rule
        gold = {**ORDER, "total": 1, "customer": {"tier": "Gold"}}
        await put(project, "my.shop", gold, Resources=["arn:x"], Time=1_767_225_600, **shop)
        await put(project, "my.forward", ORDER)
        whole, forwarded = [each["event"] for each in await project.seen("Whole", 2)]
        assert whole.pop("id") != forwarded["id"]
        assert whole == {
            "version": "0",
            "detail-type": "Order",
            "source": "my.shop",
            "account": "123456789012",
            "time": "2026-01-01T00:00:00Z",
            "region": "us-east-1",
            "resources": ["arn:x"],
            "detail": gold,
        }
        assert (forwarded["source"], forwarded["detail"]) == ("my.forward", ORDER)
        await inputs(project)
        await transformed(project)

    run("rules", script)


async def inputs(project: Project) -> None:
    """Three rules for one function."""
    await put(project, "part", {"item": {"n": 1}})
    await put(project, "part", {"no": "item"})
    await put(project, "fixed", {})
    await put(project, "elsewhere", {}, EventBusName="of-another-stack")
    seen = [each["event"] for each in await project.seen("Part", 4)]
    assert {"n": 1} in seen
    assert {} in seen
    assert {"fixed": True} in seen
    assert "elsewhere" in [each.get("source") for each in seen]


async def transformed(project: Project) -> None:
    """One rule, five targets, of which one is not there."""
    lines = [{"name": "a"}, {"name": 'b"'}]
    await put(project, "transform", {"id": 'o"1', "lines": lines}, EventBusName="shop")
    (seen,) = await project.seen("Part")
    event = seen["event"].pop("event")
    assert event["detail"]["lines"] == lines
    assert event["account"] == "123456789012"
    assert seen["event"] == {
        "id": 'o"1',
        "names": ["a", 'b"'],
        "first": {"name": "a"},
        "none": "",
        "text": 'Order: o"1 by transformed',
    }
    assert sorted(await project.messages("local-Mail", 2)) == [
        '"Order o\\"1 has come"',
        '"o\\"1"',
    ]
    (ordered,) = await project.messages("local-Ordered.fifo")
    assert json.loads(ordered) == {"id": 'o"1', "lines": lines}
    (dead,) = await project.messages("local-Dead")
    assert json.loads(dead) == event
    arn = "arn:aws:events:us-east-1:123456789012:rule/shop/transformed"
    assert project.emulator.stack.outputs["RuleArn"] == arn


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


def test_a_topic_to_functions_and_queues() -> None:
    async def script(project: Project) -> None:
        assert project.notes == [
            ("ByMail", "ByMail is not emulated: nothing is sent by email"),
            (
                "OfAws",
                f"OfAws is not emulated: {IP_SPACE} is not a topic of this account and region",
            ),
        ]
        news = "arn:aws:sns:us-east-1:123456789012:local-News"

        async def publish(message: str, **attributes: Any) -> None:
            await project.call(
                "sns", "publish", TopicArn=news, Message=message, MessageAttributes=attributes
            )

        three = {"DataType": "Number", "StringValue": "3"}
        tags = {"DataType": "String.Array", "StringValue": '["old", "new"]'}
        await publish("not the team", team=text("green"), size=three, tags=tags)
        await publish("not the size", team=text("red"), size=text("3"), tags=tags)
        await publish("wanted", team=text("blue"), size=three, tags=tags)
        (seen,) = await project.seen("ByAttribute")
        (record,) = seen["event"]["Records"]
        assert record["Sns"]["Message"] == "wanted"
        assert record["Sns"]["MessageAttributes"]["size"] == {"Type": "Number", "Value": "3"}
        whole = [json.loads(body) for body in await project.messages("local-Everything", 3)]
        assert {each["Message"] for each in whole} == {"wanted", "not the size", "not the team"}
        assert {each["Type"] for each in whole} == {"Notification"}
        await filtered_by_body(project, publish)
        await publish("by the queue", queued=text("yes"))
        (seen,) = await project.seen("ByQueue")
        assert json.loads(seen["event"]["Records"][0]["body"])["Message"] == "by the queue"
        await publish("to nobody", lost=text("yes"))
        (lost,) = await project.messages("local-Dead")
        assert json.loads(lost)["Records"][0]["Sns"]["Message"] == "to nobody"
        other = "arn:aws:sns:us-east-1:123456789012:of-another-stack"
        await project.call("sns", "publish", TopicArn=other, Message="from elsewhere")
        assert await project.messages("local-Raw") == ["from elsewhere"]

    run("fan_out", script)


async def filtered_by_body(project: Project, publish: Any) -> None:
    """Raw, with its attributes, bytes too."""
    for missed in ({"order": {"total": 9}, "kind": "red"}, {"order": {"total": 10}}, "text"):
        await publish(json.dumps(missed))
    wanted = json.dumps({"order": [{"total": 1}, {"total": 10}], "urgent": True})
    await publish(wanted, data={"DataType": "Binary", "BinaryValue": b"\x00\xff"}, name=text("é"))
    async with asyncio.timeout(20):
        while not project.emulator.queues.refreshed("local-Raw").count("visible"):
            await asyncio.sleep(0.02)
    url = project.emulator.addresses.queues["local-Raw"]
    (message,) = (
        await project.call("sqs", "receive_message", QueueUrl=url, MessageAttributeNames=["All"])
    )["Messages"]
    assert message["Body"] == wanted
    assert message["MessageAttributes"]["data"]["BinaryValue"] == b"\x00\xff"
    assert message["MessageAttributes"]["name"] == text("é")
    project.emulator.queues.delete("local-Raw", message["ReceiptHandle"])


def test_a_bucket_to_functions_queues_topics_and_rules() -> None:
    async def script(project: Project) -> None:
        assert project.notes == []
        bucket = {"Bucket": "local-bucket"}
        tests = [json.loads(body) for body in await project.messages("local-Removals", 2)]
        assert {each["Event"] for each in tests} == {"s3:TestEvent"}
        for key in ("in/a.txt", "out/a.csv", "in/a b.csv", "heard/x", "in/b.csv"):
            await project.call("s3", "put_object", **bucket, Key=key, Body=b"abc")
        first, second = await project.seen("Reports", 2)
        objects = [each["event"]["Records"][0]["s3"]["object"] for each in (first, second)]
        assert {each["key"] for each in objects} == {"in/a+b.csv", "in/b.csv"}
        assert objects[0]["size"] == 3
        for key in ("c.txt", "c.csv"):
            await project.call("s3", "put_object", Bucket="local-constructed", Key=key, Body=b"")
        (constructed,) = await project.seen("Reports")
        assert constructed["event"]["Records"][0]["s3"]["bucket"]["name"] == "local-constructed"
        for key in ("copy.txt", "copy.png"):
            await project.call(
                "s3", "copy_object", **bucket, Key=key, CopySource="local-bucket/heard/x"
            )
        (copied,) = await project.seen("Copied")
        (record,) = json.loads(copied["event"]["Records"][0]["Sns"]["Message"])["Records"]
        assert (record["eventName"], record["s3"]["object"]["key"]) == (
            "ObjectCreated:Copy",
            "copy.png",
        )
        await project.call("s3", "delete_object", **bucket, Key="heard/x")
        (removed,) = await project.messages("local-Removals")
        assert json.loads(removed)["Records"][0]["eventName"] == "ObjectRemoved:Delete"
        created, deleted = [each["event"] for each in await project.seen("Heard", 2)]
        if created["detail-type"] != "Object Created":
            created, deleted = deleted, created
        assert created["account"] == "123456789012"
        assert created["resources"] == ["arn:aws:s3:::local-bucket"]
        assert created["detail"]["reason"] == "PutObject"
        assert created["detail"]["object"]["size"] == 3
        assert deleted["detail"]["deletion-type"] == "Permanently Deleted"
        assert "size" not in deleted["detail"]["object"]
        versions = {"Bucket": "local-versions", "Key": "v"}
        await project.call("s3", "put_object", **versions, Body=b"1")
        await project.call("s3", "delete_object", **versions)
        (marked,) = await project.messages("local-Removals")
        assert json.loads(marked)["Records"][0]["eventName"] == "ObjectRemoved:DeleteMarkerCreated"

    run("uploads", script)


def test_aliases_and_versions() -> None:
    async def script(project: Project) -> None:
        assert project.notes == []
        assert project.emulator.stack.outputs["Alias"] == f"{FUNCTION}F:live"
        assert project.emulator.stack.outputs["Version"] == f"{FUNCTION}Plain:1"
        (scheduled,) = await project.seen("Plain")
        assert scheduled == {"event": {"from": "schedule"}, "arn": f"{FUNCTION}Plain:blue"}
        await invoked_by_name(project)
        url = project.emulator.addresses.queues["local-Jobs"]
        await project.call("sqs", "send_message", QueueUrl=url, MessageBody="job")
        (job,) = await project.seen("F")
        assert job["arn"] == f"{FUNCTION}F:live"
        topic = "arn:aws:sns:us-east-1:123456789012:local-Topic"
        await project.call("sns", "publish", TopicArn=topic, Message="news")
        (news,) = await project.seen("F")
        assert news["arn"] == f"{FUNCTION}F:live"
        await put(project, "alias", {})
        (event,) = await project.seen("F")
        assert event["arn"] == f"{FUNCTION}F:live"
        await project.call("s3", "put_object", Bucket="local-bucket", Key="k", Body=b"")
        (upload,) = await project.seen("F")
        assert upload["arn"] == f"{FUNCTION}F:live"
        # The alias has a destination, what has no qualifier has none.
        done = [json.loads(body) for body in await project.messages("local-Done", 3)]
        assert {each["requestContext"]["functionArn"] for each in done} == {f"{FUNCTION}F:live"}
        assert {each["responseContext"]["executedVersion"] for each in done} == {"1"}
        await project.call("lambda", "invoke", FunctionName="F", InvocationType="Event")
        assert (await project.seen("F"))[0]["arn"] == f"{FUNCTION}F"
        async with httpx.AsyncClient() as http:
            for output in ("Api", "Rest", "Url"):
                answer = await http.get(project.emulator.stack.outputs[output])
                assert answer.status_code == 200
                assert (await project.seen("F"))[0]["arn"] == f"{FUNCTION}F:live"
        await asyncio.sleep(0.2)
        assert project.emulator.queues.refreshed("local-Done").count("visible") == 0

    run("aliases", script)


async def invoked_by_name(project: Project) -> None:
    """Each way of invoking by the Lambda API."""
    for name, qualifier, arn in (
        ("Plain:blue", None, ":blue"),
        ("Plain", "blue", ":blue"),
        (f"{FUNCTION}Plain:1", None, ":1"),
        (f"{FUNCTION}Plain", "1", ":1"),
        ("123456789012:function:Plain:blue", None, ":blue"),
        ("Plain", "$LATEST", ""),
    ):
        given = {"Qualifier": qualifier} if qualifier else {}
        answer = await project.call("lambda", "invoke", FunctionName=name, **given)
        assert json.loads(answer["Payload"].read()) == f"{FUNCTION}Plain{arn}"
        assert answer["ExecutedVersion"] == ("1" if arn else "$LATEST")
        await project.seen("Plain")
    for name in ("Plain:green", "F:2"):
        with pytest.raises(Exception, match="ResourceNotFoundException"):
            await project.call("lambda", "invoke", FunctionName=name)


def test_what_is_switched_off() -> None:
    async def script(project: Project) -> None:
        assert project.notes == []
        (mapping,) = (await project.call("lambda", "list_event_source_mappings"))[
            "EventSourceMappings"
        ]
        assert mapping["State"] == "Disabled"
        url = project.emulator.addresses.queues["local-Jobs"]
        await project.call("sqs", "send_message", QueueUrl=url, MessageBody="job")
        await put(project, "shop", {})
        assert json.loads((await project.messages("local-Witness"))[0])["source"] == "shop"
        assert {each.name: each.enabled for each in project.emulator.book} == {
            "local-OffMinute": False,
            "OffLater": False,
        }
        await asyncio.sleep(0.3)
        assert project.unseen("Off")
        await project.call(
            "lambda", "update_event_source_mapping", UUID=mapping["UUID"], Enabled=True
        )
        (seen,) = await project.seen("Off")
        assert seen["event"]["Records"][0]["body"] == "job"

    run("switched_off", script)


def test_streams_are_named_and_the_rest_is_played() -> None:
    async def script(project: Project) -> None:
        only = "only queues are read"
        assert sorted(project.notes) == [
            (line, f"{name} is not emulated: {why}")
            for line, name, why in (
                ("Foreign", "Foreign", "of-another-stack is not a function of this template"),
                ("Reads", "ReadsBroker", f"Reads gets nothing from a broker of Amazon MQ: {only}"),
                ("Reads", "ReadsCluster", f"Reads gets nothing from a Kafka cluster: {only}"),
                (
                    "Reads",
                    "ReadsDocuments",
                    f"Reads gets nothing from changes in DocumentDB: {only}",
                ),
                (
                    "Reads",
                    "ReadsKafka",
                    f"Reads gets nothing from a self-managed Kafka cluster: {only}",
                ),
                ("Reads", "ReadsStream", f"Reads gets nothing from a Kinesis stream: {only}"),
                ("Reads", "ReadsTable", f"Reads gets nothing from a DynamoDB stream: {only}"),
            )
        ]
        async with httpx.AsyncClient() as http:
            assert (await http.get(project.emulator.stack.outputs["Api"])).status_code == 200
        await project.call("dynamodb", "put_item", TableName="local-Table", Item={"id": {"S": "1"}})

    run("streams", script)


def test_schedules_to_functions_queues_and_topics() -> None:
    async def script(project: Project) -> None:
        assert project.notes == [
            ("ToWorkflow", f"ToWorkflow is not emulated: nothing is sent to {WORKFLOW}")
        ]
        emulator = project.emulator
        arn = "arn:aws:scheduler:us-east-1:123456789012:schedule/"
        assert emulator.stack.outputs["Schedule"] == f"{arn}nightly/local-ToTopic"
        (ticked,) = await project.seen("Ticked")
        assert ticked["event"] == {"from": f"{arn}default/TickedNow"}
        told = [each["event"]["Records"][0]["Sns"] for each in await project.seen("Told", 2)]
        assert {each["Message"] for each in told} == {"to the topic", "by a call"}
        shaped = [each for each in emulator.book if each.name == "shaped"]
        for schedule in shaped:  # due in an hour: as the console's button fires it
            await deliver(Firing(schedule, 0.0, "1"), emulator.queues, emulator.invocations)
        assert await project.messages("local-Queue") == ['{"by": "aws.events"}']
        found = [each["event"] for each in await project.seen("Told", 2)]
        assert "Scheduled Event" in found
        (record,) = [each["Records"][0] for each in found if isinstance(each, dict)]
        assert record["Sns"]["Message"] == '"by a rule"'

    run("timetable", script)
