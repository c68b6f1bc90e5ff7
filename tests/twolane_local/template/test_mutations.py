"""Whatever a template says, reading it ends in a stack, or in an error of ours with its place."""

from __future__ import annotations

import copy
import json
import os
import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from twolane_local import template
from twolane_local.errors import LocalError
from twolane_local.template import stack
from twolane_local.template.yaml import read_template

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
SMALL = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
  Zones: {Type: CommaDelimitedList, Default: "a, b"}
Mappings:
  Sizes: {dev: {Memory: 256}, prod: {Memory: 512}}
Conditions:
  Prod: !Equals [!Ref Stage, prod]
  Dev: !Not [!Condition Prod]
Globals:
  Function: {Runtime: python3.13, CodeUri: ., Timeout: 10, Environment: {Variables: {AB: c}}}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: a.b
      MemorySize: !FindInMap [Sizes, !Ref Stage, Memory]
      Layers: [!Ref Layer]
      AutoPublishAlias: live
      Environment: {Variables: {QUEUE: !Ref Jobs, ZONE: !Select [1, !Ref Zones]}}
      FunctionUrlConfig: {AuthType: NONE, Cors: {AllowOrigins: ["*"]}}
      Events:
        Any: {Type: HttpApi, Properties: {Path: /a, Method: get}}
        Old: {Type: Api, Properties: {Path: /b, Method: post}}
        Jobs: {Type: SQS, Properties: {Queue: !GetAtt Jobs.Arn, BatchSize: 5,
               FilterCriteria: {Filters: [{Pattern: '{"body": {"a": [1]}}'}]}}}
        Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute)}}
        Rule: {Type: Schedule, Properties: {Schedule: "cron(0 9 * * ? *)", Input: '{}'}}
        Files: {Type: S3, Properties: {Bucket: !Ref Files, Events: s3:ObjectCreated:*}}
  Plain:
    Type: AWS::Lambda::Function
    Condition: Dev
    DependsOn: [Table]
    Properties:
      {Handler: a.b, Runtime: python3.13, Role: r, Code: {S3Bucket: b, S3Key: k},
       EphemeralStorage: {Size: 512}, FunctionName: !Sub "${AWS::StackName}-plain"}
  Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: .}}
  Jobs:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  Dead: {Type: AWS::SQS::Queue}
  Files: {Type: AWS::S3::Bucket}
  Topic:
    Type: AWS::SNS::Topic
    Properties: {Subscription: [{Protocol: sqs, Endpoint: !GetAtt Jobs.Arn}]}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
Outputs:
  Url: {Value: !Sub "https://${ServerlessHttpApi}.execute-api.us-east-1.amazonaws.com"}
"""
FACTS = stack.BuildContext(
    "http://127.0.0.1:1", lambda api: f"http://127.0.0.1:1/{api}", lambda name, _: name
)
#: Values that a mistake, or an attacker, could put anywhere.
VALUES: list[Any] = [
    None, True, 0, -1, 5, 2.5, 99_999_999, "", "abc", "a\0b", "${", "${Nobody}", "${Jobs.Arn}",
    "arn:aws:sqs:::x", "rate(0 minutes)", "{", [], {}, [1], [None], [[]], {"a": "b"}, {"": 1},
    {"Ref": "Jobs"}, {"Ref": "Nobody"}, {"Ref": None}, {"Ref": "AWS::NoValue"},
    {"Fn::GetAtt": ["Api", "Arn"]}, {"Fn::GetAtt": "Jobs"}, {"Fn::GetAtt": [1, 2]},
    {"Fn::Sub": ["${a}", {"a": {"Ref": "Jobs"}}]}, {"Fn::Sub": []}, {"Fn::Join": ["", "abc"]},
    {"Fn::Join": []}, {"Fn::Select": [9, []]}, {"Fn::Split": [1, 2]}, {"Fn::If": ["Prod", 1, 2]},
    {"Fn::If": ["Prod", 1]}, {"Fn::If": {}}, {"Fn::FindInMap": ["Sizes", "x", "y"]},
    {"Fn::FindInMap": [[], {}, 1]}, {"Fn::Not": []}, {"Fn::And": 5}, {"Condition": "Prod"},
    {"Fn::Base64": {}}, {"Fn::Length": 5}, {"Fn::Frob": 1}, {"Fn::ImportValue": "x"},
    "AWS::Lambda::Function", "AWS::Serverless::Function", "AWS::SQS::Queue", "AWS::Events::Rule",
    "AWS::Scheduler::Schedule", "AWS::ApiGateway::RestApi", "AWS::Lambda::EventSourceMapping",
    "AWS::Lambda::Url", "AWS::Lambda::Alias", "AWS::CloudFormation::Stack", "AWS::SNS::Topic",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container with a key or an index of it."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [(value, key) for key, _ in inner] + [
        place for _, each in inner for place in places(each)
    ]


def mutate(content: Any, draw: st.DrawFn) -> None:
    container, key = draw(st.sampled_from(places(content)))
    how = draw(st.sampled_from(["replace", "replace", "remove", "rename", "move"]))
    if how == "replace":
        container[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
    elif how == "remove":
        del container[key]
    elif how == "rename" and isinstance(container, dict):
        container[draw(st.sampled_from(["", "A=B", "Ref", "Fn::Sub", "Jobs"]))] = container.pop(key)
    else:
        other, there = draw(st.sampled_from(places(content)))
        container[key] = copy.deepcopy(other[there])
    note(f"{how} {key}")


@st.composite
def mutated(draw: st.DrawFn, originals: list[Any]) -> Any:
    content = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        if places(content):
            mutate(content, draw)
    return content


def original(text: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.yaml"
        path.write_text(text)
        return read_template(path).content


ORIGINALS = [original(SMALL), original((ROOT / "template.yaml").read_text())]
#: The templates of the shapes, without their code.
SHAPES = sorted(
    path
    for path in (ROOT / "tests" / "templates").glob("*/template.*")
    if path.suffix in {".yaml", ".yml", ".json"}
)
ORIGINALS += [original(path.read_text()) for path in SHAPES]
#: No template takes so long to read, on a loaded machine either.
HANGS_S = 60.0
NESTED = ROOT / "infra" / "redis.yaml"


@contextmanager
def no_hang() -> Iterator[None]:
    def hung(*_: Any) -> None:
        raise AssertionError(f"reading the template takes more than {HANGS_S:.0f} s")

    former = signal.signal(signal.SIGALRM, hung)
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def check(content: Any) -> None:
    with no_hang(), tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", folder)
        path = Path(folder) / "template.yaml"
        path.write_text(json.dumps(content))
        (Path(folder) / "handlers").mkdir()
        (Path(folder) / "infra").mkdir()
        (Path(folder) / "infra" / "redis.yaml").write_bytes(NESTED.read_bytes())
        message = None
        try:
            stack.build(template.load(path, {}, stack_name="local"), FACTS)
        except LocalError as error:
            message = str(error)
    assert message is None or ("template.yaml" in message and "\n" not in message), message


def test_what_is_mutated_is_good() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.yaml"
        path.write_text(json.dumps(ORIGINALS[0]))
        built, _ = stack.build(template.load(path, {}, stack_name="local"), FACTS)
        assert {"Api"} == {spec.name for spec in built.functions if not spec.unrunnable}
        assert len(built.mappings) == 1
        assert len(built.schedules) == 2


SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@settings(SETTINGS, max_examples=20)
@given(mutated(ORIGINALS[:1]))
def test_a_mutated_template_is_a_stack_or_an_error(content: Any) -> None:
    check(content)


TRIES = int(os.environ.get("TEMPLATE_TRIES", "200"))
#: So that several processes share the tries.
SHARDS = 4


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
@settings(SETTINGS, derandomize=False, max_examples=-(-TRIES // SHARDS))
@given(data=st.data())
def test_many_mutated_templates(shard: int, data: st.DataObject) -> None:
    check(data.draw(mutated(ORIGINALS)))
