"""The expanded template as a whole, created by moto's CloudFormation."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import boto3
import pytest
from moto import mock_aws

from twolane_local import template
from twolane_local.template.nested import LOCAL_BUCKET

from .conftest import ROOT

#: moto's CloudFormation has no aliases: what they stand for takes their place.
ALIAS = "ApiFunctionAliaslive"
#: What it leaves out with a warning. The list is exact, so that nothing more gets lost.
LEFT_OUT = {
    "AWS::ApiGatewayV2::Api", "AWS::ApiGatewayV2::Stage", "AWS::S3::BucketPolicy",
    "AWS::SES::EmailIdentity", "AWS::SQS::QueuePolicy", "AWS::Scheduler::Schedule",
    "AWS::Scheduler::ScheduleGroup", "AWS::CloudFormation::Stack",
}  # fmt: skip


#: With mail, since moto's roles take no list from which an entry was left out.
PARAMETERS = {
    "RedisUrl": "", "ApiKeySha256": "0" * 64,
    "SenderAddress": "notifications@example.com", "CreateSenderIdentity": "true",
}  # fmt: skip


def expanded() -> dict[str, Any]:
    whole = template.expand(ROOT / "template.yaml", PARAMETERS)
    permission = whole["Resources"]["ApiFunctionAnyRequestPermission"]
    assert permission["Properties"]["FunctionName"] == {"Ref": ALIAS}
    for name in (ALIAS, "ApiFunctionAnyRequestPermission"):
        del whole["Resources"][name]
    text = json.dumps(whole).replace("${" + ALIAS + "}", "${ApiFunction.Arn}")
    return dict(json.loads(text))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Tried to parse .* not supported by moto")
@mock_aws
def test_moto_creates_the_whole_stack() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("app/__init__.py", "")
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket=LOCAL_BUCKET)
    s3.put_object(Bucket=LOCAL_BUCKET, Key="handlers/", Body=archive.getvalue())
    wanted = expanded()
    client = boto3.client("cloudformation", region_name="us-east-1")
    client.create_stack(
        StackName="s", TemplateBody=json.dumps(wanted), Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value}
                    for key, value in PARAMETERS.items()],
    )  # fmt: skip
    (stack,) = client.describe_stacks(StackName="s")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"

    functions = boto3.client("lambda", region_name="us-east-1").list_functions()["Functions"]
    assert sorted(each["Handler"] for each in functions) == [
        "app.api.handler", "app.beat.handler", "app.worker.handler",
    ]  # fmt: skip
    assert len({each["CodeSha256"] for each in functions}) == 1
    sqs = boto3.client("sqs", region_name="us-east-1")
    urls = sqs.list_queues()["QueueUrls"]
    assert len(urls) == 2
    table = boto3.client("dynamodb", region_name="us-east-1").list_tables()["TableNames"]
    assert len(table) == 1
    made = {
        each["ResourceType"]
        for each in client.list_stack_resources(StackName="s")["StackResourceSummaries"]
        if each.get("PhysicalResourceId")
    }
    kinds = {each["Type"] for each in wanted["Resources"].values()}
    assert {"AWS::IAM::Role", "AWS::Lambda::Function", "AWS::Lambda::EventSourceMapping"} <= made
    assert kinds - made - LEFT_OUT <= {"AWS::Lambda::Permission", "AWS::Lambda::Version"}
