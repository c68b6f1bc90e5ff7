"""Functions that the API makes run as those of the template do."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from .conftest import ROLE, archive, function

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Running

ARN = "arn:aws:lambda:us-east-1:123456789012:function"


def settled(aws: Any, name: str) -> None:
    quick = {"Delay": 1, "MaxAttempts": 30}
    aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig=quick)
    aws.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig=quick)


def invoked(aws: Any, name: str, event: Any = None, **more: Any) -> Any:
    answer = aws.invoke(FunctionName=name, Payload=json.dumps(event or {}), **more)
    return json.loads(answer["Payload"].read())


@pytest.fixture(scope="module")
def worker(aws: Any) -> Iterator[str]:
    created = aws.create_function(**function("worker", Environment={"Variables": {"MOOD": "fine"}}))
    assert (created["State"], created["StateReasonCode"]) == ("Pending", "Creating")
    settled(aws, "worker")
    yield "worker"
    aws.delete_function(FunctionName="worker")


def refused(call: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**params)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_it_runs(aws: Any, worker: str, running: Running) -> None:
    assert invoked(aws, worker, {"a": 1}) == {
        "release": 1, "mood": "fine", "version": "$LATEST", "arn": f"{ARN}:worker",
        "event": {"a": 1},
    }  # fmt: skip
    failed = aws.invoke(FunctionName=worker, Payload=b'{"fail": true}', LogType="Tail")
    assert failed["FunctionError"] == "Unhandled"
    error = json.loads(failed["Payload"].read())
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "as it was told")
    assert b"REPORT RequestId" in base64.b64decode(failed["LogResult"])
    # The journal and the pools know it as they know the template's.
    kinds = {event.kind for event in running.emulator.journal if event.function == worker}
    assert {"invocation.started", "invocation.ended"} <= kinds
    assert "worker" in running.emulator.functions.states()


def test_its_configuration_is_what_aws_would_show(aws: Any, worker: str) -> None:
    shown = aws.get_function(FunctionName=worker)
    code = archive()
    with urllib.request.urlopen(shown["Code"]["Location"], timeout=10) as answer:
        assert answer.read() == code
    configuration = shown["Configuration"]
    for name in ("RevisionId", "LastModified", "RuntimeVersionConfig"):
        assert configuration.pop(name)
    assert configuration == {
        "FunctionName": worker, "FunctionArn": f"{ARN}:worker", "Runtime": "python3.11",
        "Role": ROLE, "Handler": "index.handler", "CodeSize": len(code),
        "CodeSha256": base64.b64encode(hashlib.sha256(code).digest()).decode(),
        "Description": "", "Timeout": 3, "MemorySize": 128, "Version": "$LATEST",
        "Environment": {"Variables": {"MOOD": "fine"}}, "TracingConfig": {"Mode": "PassThrough"},
        "PackageType": "Zip", "Architectures": ["x86_64"], "EphemeralStorage": {"Size": 512},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": "/aws/lambda/worker"},
        "State": "Active", "LastUpdateStatus": "Successful",
    }  # fmt: skip


def test_code_and_configuration_are_updated(aws: Any) -> None:
    aws.create_function(**function("changing", Publish=True))
    settled(aws, "changing")
    before = aws.get_function_configuration(FunctionName="changing")["RevisionId"]
    same = aws.update_function_code(FunctionName="changing", ZipFile=archive(2), DryRun=True)
    assert same["CodeSize"] == len(archive(2))
    assert invoked(aws, "changing")["release"] == 1
    updated = aws.update_function_code(FunctionName="changing", ZipFile=archive(2))
    assert updated["LastUpdateStatus"] == "InProgress"
    busy = {"FunctionName": "changing", "Timeout": 9}
    assert refused(aws.update_function_configuration, **busy) == (
        "ResourceConflictException",
        (
            "The operation cannot be performed at this time. An update is in progress for "
            f"resource: {ARN}:changing"
        ),
    )
    assert invoked(aws, "changing")["release"] == 2
    settled(aws, "changing")
    stale = refused(aws.update_function_configuration, **busy, RevisionId=before)
    assert stale[0] == "PreconditionFailedException"
    now = aws.get_function_configuration(FunctionName="changing")["RevisionId"]
    aws.update_function_configuration(
        **busy, RevisionId=now, Environment={"Variables": {"MOOD": "new"}}
    )
    assert invoked(aws, "changing")["mood"] == "new"
    # The published version keeps its own code and configuration.
    first = invoked(aws, "changing", Qualifier="1")
    assert (first["release"], first["mood"], first["version"]) == (1, None, "1")
    aws.delete_function(FunctionName="changing")
    assert refused(aws.invoke, FunctionName="changing:1")[0] == "ResourceNotFoundException"
    assert refused(aws.get_function, FunctionName="changing") == (
        "ResourceNotFoundException", f"Function not found: {ARN}:changing",
    )  # fmt: skip


def test_code_comes_from_s3_too(aws: Any, running: Running) -> None:
    s3 = running.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="a/b c.zip", Body=archive(7))
    place = {"S3Bucket": "code", "S3Key": "a/b c.zip"}
    aws.create_function(**{**function("from-s3"), "Code": place})
    assert invoked(aws, "from-s3")["release"] == 7
    aws.delete_function(FunctionName="from-s3")
    missing = {**place, "S3Key": "none"}
    assert refused(aws.create_function, **{**function("from-s3"), "Code": missing}) == (
        "InvalidParameterValueException", ("Error occurred while GetObject. S3 Error Code: "
        "NoSuchKey. S3 Error Message: The specified key does not exist."),
    )  # fmt: skip


def bad_archive(member: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr(member, "x")
    return out.getvalue()


@pytest.mark.parametrize("archive", [b"no archive", bad_archive("../../out.py")])
def test_an_archive_that_leads_out_of_its_folder_is_refused(aws: Any, archive: bytes) -> None:
    parameters = {**function("broken"), "Code": {"ZipFile": archive}}
    assert refused(aws.create_function, **parameters) == (
        "InvalidParameterValueException",
        "Could not unzip uploaded file. Please check your file, then try to upload again.",
    )
    assert refused(aws.get_function, FunctionName="broken")[0] == "ResourceNotFoundException"


NAME = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({}, "ResourceConflictException", "Function already exist: worker"),
        ({"Runtime": "cobol"}, "InvalidParameterValueException", "Value cobol at 'runtime' failed"),
        ({"Runtime": "python3.7"}, "InvalidParameterValueException", "python3.7 is no longer"),
        ({"Role": "nobody"}, "ValidationException", "1 validation error detected: Value 'nobody'"),
        ({"MemorySize": 1}, "ValidationException",
         ("1 validation error detected: Value '1' at 'memorySize' failed to satisfy constraint: "
         "Member must have value greater than or equal to 128")),
        ({"Timeout": 901}, "ValidationException", "less than or equal to 900"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException",
         "Reserved keys used in this request: AWS_REGION"),
        ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "InvalidParameterValueException",
         "exceeded the 4KB limit"),
        ({"Layers": [f"{ARN[:-8]}layer:none:1"]}, "InvalidParameterValueException",
         "layer:none:1 does not exist."),
        ({"FunctionName": "a b"}, "ValidationException",
         "Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular"),
        ({"TracingConfig": {"Mode": "Loud"}}, "ValidationException",
         ("Value 'Loud' at 'tracingConfig.mode' failed to satisfy constraint: Member must satisfy "
         "enum value set: [Active, PassThrough]")),
        ({"Handler": "a b", "Architectures": ["vax"]}, "ValidationException",
         "2 validation errors detected: "),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_refused(
    running: Running, worker: str, change: dict[str, Any], code: str, message: str
) -> None:
    aws = running.client("lambda", parameter_validation=False)
    found, text = refused(aws.create_function, **{**function(worker), **change})
    assert found == code
    assert message in text


def test_functions_are_listed_in_pages(aws: Any, worker: str) -> None:
    pages = aws.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    names = [[each["FunctionName"] for each in page["Functions"]] for page in pages]
    assert all(len(page) == 1 for page in names)
    assert [page for page in names if page[0] in {"Greeter", worker}] == [["Greeter"], ["worker"]]
    everything = [
        each
        for each in aws.list_functions(FunctionVersion="ALL")["Functions"]
        if each["FunctionName"] in {"Greeter", worker}
    ]
    assert [each["FunctionArn"].partition(":function:")[2] for each in everything] == [
        "Greeter:$LATEST", "Greeter:1", "worker:$LATEST",
    ]  # fmt: skip
    assert "State" not in everything[0]


def test_a_function_has_several_names(aws: Any, worker: str) -> None:
    for name in (worker, f"123456789012:function:{worker}", f"{ARN}:{worker}",
                 f"{ARN}:{worker}:$LATEST"):  # fmt: skip
        assert aws.get_function_configuration(FunctionName=name)["FunctionName"] == worker
        assert invoked(aws, name)["release"] == 1
    for call in (aws.get_function, aws.invoke):
        assert refused(call, FunctionName=f"{worker}:1", Qualifier="2") == (
            "InvalidParameterValueException", ("The derived qualifier from the function name does "
            "not match the specified qualifier."),
        )  # fmt: skip
        elsewhere = f"{ARN}:{worker}".replace("us-east-1", "eu-west-1")
        assert refused(call, FunctionName=elsewhere) == (
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        )


def test_the_templates_function_is_there_too(aws: Any) -> None:
    shown = aws.get_function(FunctionName="Greeter")
    configuration = shown["Configuration"]
    assert (configuration["Timeout"], configuration["Handler"]) == (7, "index.handler")
    assert shown["Tags"]["team"] == "a"
    with urllib.request.urlopen(shown["Code"]["Location"], timeout=10) as answer:
        content = answer.read()
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert digest == configuration["CodeSha256"]
    assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["index.py"]
    assert [each["Name"] for each in aws.list_aliases(FunctionName="Greeter")["Aliases"]] == [
        "live"
    ]
    policy = json.loads(aws.get_policy(FunctionName="Greeter", Qualifier="live")["Policy"])
    assert "lambda:InvokeFunctionUrl" in [each["Action"] for each in policy["Statement"]]
    assert invoked(aws, "Greeter", Qualifier="live") == {"version": "$LATEST"}
    url = aws.get_function_url_config(FunctionName="Greeter", Qualifier="live")["FunctionUrl"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert json.loads(answer.read()) == {"version": "$LATEST"}


def test_a_function_that_cannot_run_here_says_so(aws: Any) -> None:
    aws.create_function(**function("node", Runtime="nodejs22.x"))
    answer = aws.invoke(FunctionName="node")
    assert answer["FunctionError"] == "Unhandled"
    assert "'nodejs22.x' is neither Python nor OS-only" in answer["Payload"].read().decode()
    aws.delete_function(FunctionName="node")


def test_layers_are_merged_below_opt(aws: Any, running: Running) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as written:
        written.writestr("python/shared.py", "NAME = 'from the layer'")
    published = aws.publish_layer_version(
        LayerName="shared", Content={"ZipFile": out.getvalue()}, CompatibleRuntimes=["python3.11"],
        Description="code for all", LicenseInfo="MIT",
    )  # fmt: skip
    arn = published["LayerVersionArn"]
    assert arn.endswith(":layer:shared:1")
    code = "import shared\ndef handler(event, context):\n    return shared.NAME\n"
    aws.create_function(
        **{**function("layered", Layers=[arn]), "Code": {"ZipFile": archive(code=code)}}
    )
    assert invoked(aws, "layered") == "from the layer"
    shown = aws.get_function_configuration(FunctionName="layered")["Layers"]
    assert shown == [{"Arn": arn, "CodeSize": len(out.getvalue())}]
    assert aws.get_layer_version_by_arn(Arn=arn)["Description"] == "code for all"
    version = aws.get_layer_version(LayerName="shared", VersionNumber=1)
    with urllib.request.urlopen(version["Content"]["Location"], timeout=10) as answer:
        assert answer.read() == out.getvalue()
    second = aws.publish_layer_version(LayerName="shared", Content={"ZipFile": out.getvalue()})
    assert second["Version"] == 2
    listed = aws.list_layer_versions(LayerName="shared")["LayerVersions"]
    assert [each["Version"] for each in listed] == [2, 1]
    layers = aws.list_layers(CompatibleRuntime="python3.11")["Layers"]
    assert [each["LatestMatchingVersion"]["Version"] for each in layers] == [1]
    aws.delete_layer_version(LayerName="shared", VersionNumber=2)
    aws.delete_layer_version(LayerName="shared", VersionNumber=1)
    assert aws.list_layers()["Layers"] == []
    aws.delete_function(FunctionName="layered")
