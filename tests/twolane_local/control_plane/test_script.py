"""A script of one's own, with boto3 alone, written from AWS's documentation.

Every answer is compared with the shape that AWS documents for it (``shapes.py``).
https://docs.aws.amazon.com/boto3/latest/reference/services/lambda.html
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import archive, function
from .shapes import Checked
from .test_functions import ARN, settled
from .test_settings import fetched

if TYPE_CHECKING:
    from .conftest import Running

NAME = "scripted"


def layer() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr("python/shared.py", "NAME = 'shared'")
    return out.getvalue()


def functions(aws: Any) -> None:
    published = aws.publish_layer_version(LayerName=NAME, Content={"ZipFile": layer()})
    aws.create_function(
        **function(
            NAME, Description="by a script", Timeout=10, MemorySize=256, Publish=True,
            Layers=[published["LayerVersionArn"]], Environment={"Variables": {"MOOD": "calm"}},
            TracingConfig={"Mode": "Active"}, LoggingConfig={"LogFormat": "JSON"},
            EphemeralStorage={"Size": 1024}, Architectures=["x86_64"], Tags={"a": "b"},
            SnapStart={"ApplyOn": "None"},
        )
    )  # fmt: skip
    settled(aws, NAME)
    aws.get_waiter("function_exists").wait(FunctionName=NAME)
    shown = aws.get_function(FunctionName=NAME)["Configuration"]
    assert shown["LoggingConfig"]["ApplicationLogLevel"] == "INFO"
    aws.get_function_configuration(FunctionName=NAME, Qualifier="1")
    aws.list_functions(MaxItems=10)
    aws.invoke(FunctionName=NAME, Payload=b'{"n": 1}', LogType="Tail")
    aws.invoke(FunctionName=NAME, InvocationType="Event", Payload=b"{}")
    aws.invoke(FunctionName=NAME, InvocationType="DryRun")
    stream = aws.invoke_with_response_stream(FunctionName=NAME, Payload=b"{}")["EventStream"]
    assert [next(iter(event)) for event in stream][-1] == "InvokeComplete"
    aws.update_function_configuration(FunctionName=NAME, MemorySize=512, Layers=[])
    settled(aws, NAME)
    aws.update_function_code(FunctionName=NAME, ZipFile=archive(2), Publish=True)
    settled(aws, NAME)
    aws.list_versions_by_function(FunctionName=NAME)
    aws.publish_version(FunctionName=NAME, Description="again")


def aliases(aws: Any) -> None:
    aws.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1", Description="for all")
    weights = {"AdditionalVersionWeights": {"2": 0.1}}
    aws.update_alias(FunctionName=NAME, Name="live", RoutingConfig=weights)
    assert aws.get_alias(FunctionName=NAME, Name="live")["RoutingConfig"] == weights
    aws.list_aliases(FunctionName=NAME)
    aws.invoke(FunctionName=NAME, Qualifier="live")


def settings(aws: Any) -> None:
    target = {"FunctionName": NAME, "Qualifier": "live"}
    aws.put_function_concurrency(FunctionName=NAME, ReservedConcurrentExecutions=10)
    aws.get_function_concurrency(FunctionName=NAME)
    aws.put_provisioned_concurrency_config(**target, ProvisionedConcurrentExecutions=1)
    aws.get_provisioned_concurrency_config(**target)
    aws.list_provisioned_concurrency_configs(FunctionName=NAME)
    aws.delete_provisioned_concurrency_config(**target)
    aws.delete_function_concurrency(FunctionName=NAME)
    aws.put_function_event_invoke_config(**target, MaximumRetryAttempts=1)
    aws.update_function_event_invoke_config(**target, MaximumEventAgeInSeconds=100)
    aws.get_function_event_invoke_config(**target)
    aws.list_function_event_invoke_configs(FunctionName=NAME)
    aws.delete_function_event_invoke_config(**target)
    aws.put_function_recursion_config(FunctionName=NAME, RecursiveLoop="Allow")
    aws.get_function_recursion_config(FunctionName=NAME)
    aws.put_runtime_management_config(FunctionName=NAME, UpdateRuntimeOn="Auto")
    aws.get_runtime_management_config(FunctionName=NAME)
    aws.get_function_code_signing_config(FunctionName=NAME)
    aws.get_account_settings()
    aws.tag_resource(Resource=f"{ARN}:{NAME}", Tags={"c": "d"})
    aws.untag_resource(Resource=f"{ARN}:{NAME}", TagKeys=["a"])
    assert aws.list_tags(Resource=f"{ARN}:{NAME}")["Tags"] == {"c": "d"}
    aws.add_permission(
        **target, StatementId="bucket", Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::bucket",
    )  # fmt: skip
    assert "bucket" in aws.get_policy(**target)["Policy"]
    aws.remove_permission(**target, StatementId="bucket")


def urls(aws: Any) -> None:
    target = {"FunctionName": NAME, "Qualifier": "live"}
    url = aws.create_function_url_config(**target, AuthType="NONE", InvokeMode="BUFFERED")
    assert fetched(url["FunctionUrl"])[0]["mood"] == "calm"
    aws.get_function_url_config(**target)
    aws.update_function_url_config(**target, Cors={"AllowOrigins": ["*"], "MaxAge": 60})
    aws.list_function_url_configs(FunctionName=NAME)
    aws.delete_function_url_config(**target)


def layers(aws: Any) -> None:
    arn = aws.get_layer_version(LayerName=NAME, VersionNumber=1)["LayerVersionArn"]
    aws.get_layer_version_by_arn(Arn=arn)
    aws.list_layers()
    aws.list_layer_versions(LayerName=NAME)
    aws.add_layer_version_permission(
        LayerName=NAME, VersionNumber=1, StatementId="all", Principal="*",
        Action="lambda:GetLayerVersion",
    )  # fmt: skip
    aws.get_layer_version_policy(LayerName=NAME, VersionNumber=1)
    aws.remove_layer_version_permission(LayerName=NAME, VersionNumber=1, StatementId="all")
    aws.delete_layer_version(LayerName=NAME, VersionNumber=1)


def mappings(aws: Any) -> None:
    made = aws.create_event_source_mapping(
        EventSourceArn="arn:aws:sqs:us-east-1:123456789012:tasks", FunctionName=f"{NAME}:live",
        Enabled=False, BatchSize=5, MaximumBatchingWindowInSeconds=1,
        FilterCriteria={"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]},
        ScalingConfig={"MaximumConcurrency": 2}, FunctionResponseTypes=["ReportBatchItemFailures"],
        MetricsConfig={"Metrics": ["EventCount"]}, Tags={"a": "b"},
    )  # fmt: skip
    aws.get_event_source_mapping(UUID=made["UUID"])
    aws.list_tags(Resource=made["EventSourceMappingArn"])
    aws.update_event_source_mapping(UUID=made["UUID"], BatchSize=6)
    listed = aws.list_event_source_mappings(FunctionName=f"{NAME}:live")
    assert [each["UUID"] for each in listed["EventSourceMappings"]] == [made["UUID"]]
    aws.delete_event_source_mapping(UUID=made["UUID"])


def log_lines(logs: Any) -> None:
    """https://docs.aws.amazon.com/boto3/latest/reference/services/logs.html"""
    group = f"/aws/lambda/{NAME}"
    (found,) = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert found["arn"].endswith(f":log-group:{group}:*")
    (newest, *_) = logs.describe_log_streams(
        logGroupName=group, orderBy="LastEventTime", descending=True
    )["logStreams"]
    page = logs.get_log_events(
        logGroupName=group, logStreamName=newest["logStreamName"], startFromHead=True
    )
    assert page["events"]
    started = logs.filter_log_events(logGroupName=group, filterPattern='{ $.type = "platform.*" }')
    assert any("platform.start" in event["message"] for event in started["events"])


def stacks(cloudformation: Any, name: str) -> None:
    """https://docs.aws.amazon.com/boto3/latest/reference/services/cloudformation.html"""
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"].endswith("_COMPLETE")
    cloudformation.list_stacks()
    cloudformation.list_stack_resources(StackName=name)
    cloudformation.describe_stack_resources(StackName=name)
    cloudformation.describe_stack_events(StackName=name)


def the_end(aws: Any) -> None:
    aws.delete_alias(FunctionName=NAME, Name="live")
    aws.delete_function(FunctionName=NAME, Qualifier="1")
    aws.delete_function(FunctionName=NAME)
    aws.list_functions(FunctionVersion="ALL")


@pytest.mark.slow
def test_a_script_of_sixty_calls(running: Running) -> None:
    checked = Checked()
    aws = checked.watch(running.client("lambda"))
    sts = checked.watch(running.client("sts"))
    sqs = checked.watch(running.client("sqs"))
    assert sts.get_caller_identity()["Arn"].startswith("arn:aws:")
    url = sqs.create_queue(QueueName=NAME)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"n": 1}))
    (message,) = sqs.receive_message(QueueUrl=url, AttributeNames=["All"])["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    for step in (functions, aliases, settings, urls, layers, mappings):
        step(aws)
    log_lines(checked.watch(running.client("logs")))
    stacks(checked.watch(running.client("cloudformation")), running.emulator.stack.name)
    the_end(aws)
    sqs.delete_queue(QueueUrl=url)
    assert len(set(checked.calls)) >= 60, sorted(set(checked.calls))
