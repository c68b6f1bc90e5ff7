"""Versions, aliases and the settings of functions, and their effects on invocations."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from .conftest import archive, function
from .test_functions import ARN, invoked, refused, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Running


@pytest.fixture(scope="module")
def versioned(aws: Any) -> Iterator[str]:
    """A function with two versions; the alias ``live`` leads to the first."""
    name = "versioned"
    aws.create_function(**function(name, Publish=True))
    settled(aws, name)
    aws.update_function_code(FunctionName=name, ZipFile=archive(2))
    settled(aws, name)
    assert aws.publish_version(FunctionName=name, Description="the second")["Version"] == "2"
    aws.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    yield name
    aws.delete_function(FunctionName=name)


def eventually(look: Callable[[], Any]) -> Any:
    """What ``look`` finds within ten seconds."""
    until = time.monotonic() + 10
    while not (found := look()):
        assert time.monotonic() < until
        time.sleep(0.02)
    return found


def test_versions(aws: Any, versioned: str) -> None:
    listed = aws.list_versions_by_function(FunctionName=versioned)["Versions"]
    assert [(each["Version"], each["Description"]) for each in listed] == [
        ("$LATEST", ""), ("1", ""), ("2", "the second"),
    ]  # fmt: skip
    assert invoked(aws, versioned, Qualifier="1")["release"] == 1
    assert invoked(aws, versioned, Qualifier="2")["release"] == 2
    # Nothing has changed since.
    assert aws.publish_version(FunctionName=versioned)["Version"] == "2"
    wrong = refused(aws.publish_version, FunctionName=versioned, CodeSha256="other")
    assert wrong[0] == "InvalidParameterValueException"
    answer = aws.invoke(FunctionName=versioned, Qualifier="live")
    assert answer["ExecutedVersion"] == "1"
    assert json.loads(answer["Payload"].read())["arn"] == f"{ARN}:{versioned}:live"
    assert refused(aws.delete_function, FunctionName=versioned, Qualifier="1")[0] == (
        "ResourceConflictException"
    )
    assert refused(aws.get_function, FunctionName=versioned, Qualifier="9") == (
        "ResourceNotFoundException", f"Function not found: {ARN}:{versioned}:9",
    )  # fmt: skip


def test_an_alias_with_weights_leads_to_two_versions(aws: Any, versioned: str) -> None:
    weights = {"AdditionalVersionWeights": {"2": 0.5}}
    created = aws.create_alias(
        FunctionName=versioned, Name="both", FunctionVersion="1", RoutingConfig=weights
    )
    assert created["RoutingConfig"] == weights
    ran = {invoked(aws, versioned, Qualifier="both")["version"] for _ in range(40)}
    assert ran == {"1", "2"}  # one in 2**39 runs fails
    only = aws.update_alias(
        FunctionName=versioned, Name="both", FunctionVersion="2",
        RoutingConfig={"AdditionalVersionWeights": {}},
    )  # fmt: skip
    assert "RoutingConfig" not in only
    assert {invoked(aws, versioned, Qualifier="both")["version"] for _ in range(10)} == {"2"}
    stale = {"FunctionName": versioned, "Name": "both", "RevisionId": created["RevisionId"]}
    assert refused(aws.update_alias, **stale)[0] == "PreconditionFailedException"
    assert aws.get_alias(FunctionName=versioned, Name="both")["AliasArn"].endswith(":both")
    listed = aws.list_aliases(FunctionName=versioned, FunctionVersion="2")["Aliases"]
    assert [each["Name"] for each in listed] == ["both"]
    aws.delete_alias(FunctionName=versioned, Name="both")
    assert refused(aws.get_alias, FunctionName=versioned, Name="both") == (
        "ResourceNotFoundException", f"Cannot find alias arn: {ARN}:{versioned}:both",
    )  # fmt: skip
    assert refused(aws.create_alias, FunctionName=versioned, Name="live", FunctionVersion="1") == (
        "ResourceConflictException", f"Alias already exists: {ARN}:{versioned}:live",
    )  # fmt: skip


def test_concurrency(aws: Any, versioned: str) -> None:
    assert "ReservedConcurrentExecutions" not in aws.get_function_concurrency(
        FunctionName=versioned
    )
    aws.put_function_concurrency(FunctionName=versioned, ReservedConcurrentExecutions=0)
    shown = aws.get_function(FunctionName=versioned)["Concurrency"]
    assert shown == {"ReservedConcurrentExecutions": 0}
    assert refused(aws.invoke, FunctionName=versioned)[0] == "TooManyRequestsException"
    aws.delete_function_concurrency(FunctionName=versioned)
    assert invoked(aws, versioned)["release"] == 2
    too_many = {"FunctionName": versioned, "ReservedConcurrentExecutions": 901}
    assert refused(aws.put_function_concurrency, **too_many)[0] == "InvalidParameterValueException"
    settings = aws.get_account_settings()
    assert settings["AccountLimit"]["ConcurrentExecutions"] == 1000
    assert settings["AccountUsage"]["FunctionCount"] >= 2


def test_provisioned_concurrency(aws: Any, versioned: str) -> None:
    target = {"FunctionName": versioned, "Qualifier": "live"}
    put = aws.put_provisioned_concurrency_config(**target, ProvisionedConcurrentExecutions=2)
    assert put["Status"] == "IN_PROGRESS"
    assert aws.get_provisioned_concurrency_config(**target)["Status"] == "READY"
    listed = aws.list_provisioned_concurrency_configs(FunctionName=versioned)
    assert [each["FunctionArn"] for each in listed["ProvisionedConcurrencyConfigs"]] == [
        f"{ARN}:{versioned}:live"
    ]
    aws.delete_provisioned_concurrency_config(**target)
    assert refused(aws.get_provisioned_concurrency_config, **target)[0] == (
        "ProvisionedConcurrencyConfigNotFoundException"
    )


def test_an_invoke_config_leads_events_to_their_destinations(
    aws: Any, versioned: str, running: Running
) -> None:
    sqs = running.client("sqs")
    queues = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("good", "bad")}
    destinations = {
        side: {"Destination": f"arn:aws:sqs:us-east-1:123456789012:{name}"}
        for side, name in (("OnSuccess", "good"), ("OnFailure", "bad"))
    }
    put = aws.put_function_event_invoke_config(
        FunctionName=versioned, MaximumRetryAttempts=0, DestinationConfig=destinations
    )
    assert put["FunctionArn"] == f"{ARN}:{versioned}:$LATEST"
    for event in ({}, {"fail": True}):
        aws.invoke(FunctionName=versioned, InvocationType="Event", Payload=json.dumps(event))
    for queue, condition in (("good", "Success"), ("bad", "RetriesExhausted")):
        received = sqs.receive_message(QueueUrl=queues[queue], WaitTimeSeconds=10)["Messages"]
        record = json.loads(received[0]["Body"])
        assert record["requestContext"]["condition"] == condition
        assert record["requestContext"]["functionArn"] == f"{ARN}:{versioned}:$LATEST"
    updated = aws.update_function_event_invoke_config(
        FunctionName=versioned, MaximumEventAgeInSeconds=60
    )
    assert (updated["MaximumRetryAttempts"], updated["MaximumEventAgeInSeconds"]) == (0, 60)
    assert aws.get_function_event_invoke_config(FunctionName=versioned)["DestinationConfig"] == (
        destinations
    )
    listed = aws.list_function_event_invoke_configs(FunctionName=versioned)
    assert len(listed["FunctionEventInvokeConfigs"]) == 1
    aws.delete_function_event_invoke_config(FunctionName=versioned)
    assert refused(aws.get_function_event_invoke_config, FunctionName=versioned)[0] == (
        "ResourceNotFoundException"
    )
    itself = {"OnFailure": {"Destination": f"{ARN}:{versioned}"}}
    wrong = {"FunctionName": versioned, "DestinationConfig": itself}
    assert refused(aws.put_function_event_invoke_config, **wrong)[0] == (
        "InvalidParameterValueException"
    )


def fetched(url: str, **headers: str) -> Any:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read()), answer.headers


def test_a_url_serves(aws: Any, versioned: str) -> None:
    created = aws.create_function_url_config(
        FunctionName=versioned, Qualifier="live", AuthType="NONE",
        Cors={"AllowOrigins": ["http://localhost:3000"]},
    )  # fmt: skip
    url = created["FunctionUrl"]
    assert created["FunctionArn"] == f"{ARN}:{versioned}:live"
    body, headers = fetched(f"{url}a/b?c=d", Origin="http://localhost:3000")
    assert body["release"] == 1
    assert body["event"]["rawPath"] == "/a/b"
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    target = {"FunctionName": versioned, "Qualifier": "live"}
    assert refused(aws.create_function_url_config, **target, AuthType="NONE")[0] == (
        "ResourceConflictException"
    )
    aws.update_function_url_config(**target, AuthType="AWS_IAM", InvokeMode="RESPONSE_STREAM")
    shown = aws.get_function_url_config(**target)
    assert (shown["AuthType"], shown["FunctionUrl"]) == ("AWS_IAM", url)
    with pytest.raises(urllib.error.HTTPError) as caught:
        fetched(url)
    with caught.value as refusal:
        assert refusal.code == 403
    listed = aws.list_function_url_configs(FunctionName=versioned)["FunctionUrlConfigs"]
    assert [each["FunctionUrl"] for each in listed] == [url]
    aws.delete_function_url_config(**target)
    assert refused(aws.get_function_url_config, **target) == (
        "ResourceNotFoundException", "The resource you requested does not exist.",
    )  # fmt: skip
    with pytest.raises(urllib.error.URLError):
        fetched(url)


def test_permissions(aws: Any, versioned: str) -> None:
    added = aws.add_permission(
        FunctionName=versioned, StatementId="s3", Action="lambda:InvokeFunction",
        Principal="s3.amazonaws.com", SourceArn="arn:aws:s3:::bucket",
        SourceAccount="123456789012",
    )  # fmt: skip
    statement = json.loads(added["Statement"])
    assert statement == {
        "Sid": "s3", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction", "Resource": f"{ARN}:{versioned}",
        "Condition": {"StringEquals": {"AWS:SourceAccount": "123456789012"},
                      "ArnLike": {"AWS:SourceArn": "arn:aws:s3:::bucket"}},
    }  # fmt: skip
    again = {
        "FunctionName": versioned, "StatementId": "s3", "Action": "lambda:*", "Principal": "*",
    }  # fmt: skip
    assert refused(aws.add_permission, **again)[0] == "ResourceConflictException"
    policy = json.loads(aws.get_policy(FunctionName=versioned)["Policy"])
    assert policy["Statement"] == [statement]
    aws.remove_permission(FunctionName=versioned, StatementId="s3")
    assert refused(aws.get_policy, FunctionName=versioned)[0] == "ResourceNotFoundException"
    assert refused(aws.remove_permission, FunctionName=versioned, StatementId="s3")[0] == (
        "ResourceNotFoundException"
    )


def test_tags(aws: Any, versioned: str) -> None:
    arn = f"{ARN}:{versioned}"
    aws.tag_resource(Resource=arn, Tags={"a": "1", "b": "2"})
    aws.untag_resource(Resource=arn, TagKeys=["a"])
    assert aws.list_tags(Resource=arn)["Tags"] == {"b": "2"}
    assert aws.get_function(FunctionName=versioned)["Tags"] == {"b": "2"}
    assert refused(aws.list_tags, Resource=f"{arn}:live")[0] == "InvalidParameterValueException"
    assert aws.list_tags(Resource=f"{ARN}:Greeter")["Tags"]["team"] == "a"


def test_code_signing_is_kept(aws: Any, versioned: str) -> None:
    publishers = {
        "SigningProfileVersionArns": [
            "arn:aws:signer:us-east-1:123456789012:/signing-profiles/mine/0123456789"
        ]
    }
    made = aws.create_code_signing_config(AllowedPublishers=publishers)["CodeSigningConfig"]
    arn = made["CodeSigningConfigArn"]
    aws.put_function_code_signing_config(FunctionName=versioned, CodeSigningConfigArn=arn)
    shown = aws.get_function_code_signing_config(FunctionName=versioned)
    assert shown["CodeSigningConfigArn"] == arn
    users = aws.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]
    assert users == [f"{ARN}:{versioned}"]
    policies = {"UntrustedArtifactOnDeployment": "Enforce"}
    aws.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies=policies)
    found = aws.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"]
    assert found["CodeSigningPolicies"] == policies
    assert len(aws.list_code_signing_configs()["CodeSigningConfigs"]) == 1
    aws.delete_function_code_signing_config(FunctionName=versioned)
    aws.delete_code_signing_config(CodeSigningConfigArn=arn)
    assert refused(aws.get_code_signing_config, CodeSigningConfigArn=arn)[0] == (
        "ResourceNotFoundException"
    )


def test_what_is_not_played_says_so(running: Running) -> None:
    aws = running.client("lambda")
    code, message = refused(aws.list_capacity_providers)
    assert (code, message) == (
        "NotImplementedException", "twolane does not play ListCapacityProviders"
    )  # fmt: skip


def test_a_recursive_loop_is_allowed(running: Running, aws: Any, versioned: str) -> None:
    for said in ("Allow", "Terminate"):
        aws.put_function_recursion_config(FunctionName=versioned, RecursiveLoop=said)
        shown = aws.get_function_recursion_config(FunctionName=versioned)
        assert shown["RecursiveLoop"] == said
        assert running.emulator.functions.specs[versioned].recursive_loop == said


def test_settings_that_are_only_kept(aws: Any, versioned: str) -> None:
    target = {"FunctionName": versioned}
    assert aws.get_runtime_management_config(**target)["UpdateRuntimeOn"] == "Auto"
    aws.put_runtime_management_config(**target, UpdateRuntimeOn="FunctionUpdate")
    assert aws.get_runtime_management_config(**target)["UpdateRuntimeOn"] == "FunctionUpdate"
