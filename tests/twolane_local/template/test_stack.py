"""From template text to what the emulator runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local import template
from twolane_local.aws.event_source_mapping import identity_of
from twolane_local.errors import TemplateError
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.model import Stack

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {CodeUri: src/, Runtime: python3.13}
Resources:
  Http: {Type: AWS::Serverless::HttpApi}
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.api.handler
      Timeout: 30
      MemorySize: 512
      ReservedConcurrentExecutions: 5
      Layers: [!Ref Layer]
      Environment:
        Variables:
          QUEUE: !Ref Tasks
          QUEUE_ARN: !GetAtt Tasks.Arn
          TABLE: !Ref Table
          TABLE_ARN: !GetAtt Table.Arn
          BUCKET: !Ref Bucket
          TOPIC: !Ref Topic
          WORKER: !GetAtt Worker.Arn
          FLAG: true
      Events:
        All: {Type: HttpApi, Properties: {ApiId: !Ref Http}}
        One: {Type: HttpApi, Properties: {ApiId: !Ref Http, Path: "/x/{id}", Method: get}}
      EventInvokeConfig: {MaximumRetryAttempts: 1}
  Layer: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: layer/}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub "${AWS::StackName}-worker"
      Handler: app.worker.handler
      DeadLetterQueue: {Type: SQS, TargetArn: !GetAtt Dead.Arn}
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 5
            MaximumBatchingWindowInSeconds: 2
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: 3}
            FilterCriteria: {Filters: [{Pattern: '{"body": {"a": [1]}}'}]}
        Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute), Input: '{"a":1}'}}
        Rule: {Type: Schedule, Properties: {Schedule: "cron(0 12 * * ? *)", Enabled: false}}
  Node: {Type: AWS::Serverless::Function, Properties: {Handler: a.b, Runtime: nodejs22.x}}
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}
  Dead: {Type: AWS::SQS::Queue, Properties: {QueueName: morgue}}
  Ordered: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Bucket: {Type: AWS::S3::Bucket}
  Topic: {Type: AWS::SNS::Topic}
  Strange: {Type: "AWS::Braket::Machine"}
Outputs:
  Url: {Value: !Sub "https://${Http}.execute-api.${AWS::Region}.amazonaws.com/path"}
  Queue: {Value: !Ref Tasks}
"""
ARN = "arn:aws:sqs:us-east-1:123456789012"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stack, list[str], Path]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "src").mkdir()
    (folder / "layer").mkdir()
    (folder / "template.yaml").write_text(TEMPLATE)
    loaded = template.load(folder / "template.yaml", {}, stack_name="s")
    return (*stack.build(loaded, facts()), folder)


def facts() -> stack.BuildContext:
    def elsewhere(name: str, attribute: str | None) -> Any:
        raise KeyError(name)

    return stack.BuildContext(
        "http://127.0.0.1:4566", lambda api: f"http://127.0.0.1/{api}", elsewhere
    )


def test_functions(built: tuple[Stack, list[str], Path]) -> None:
    made, _, folder = built
    api, worker, node = made.functions
    assert (api.name, api.logical_id, worker.name) == ("Api", "Api", "s-worker")
    assert (api.handler, api.timeout_s, api.memory_mb) == ("app.api.handler", 30.0, 512)
    assert (worker.timeout_s, worker.memory_mb) == (3.0, 128)
    assert api.code_dir == (folder / "src").resolve()
    assert api.layer_dirs == ((folder / "layer").resolve(),)
    assert (api.reserved_concurrency, worker.reserved_concurrency) == (5, None)
    assert api.event_invoke["MaximumRetryAttempts"] == 1
    assert worker.dead_letter_arn == f"{ARN}:morgue"
    assert (api.unrunnable, worker.unrunnable) == ("", "")
    assert node.unrunnable == "runtime 'nodejs22.x' is neither Python nor OS-only"


def test_references_become_local_values(built: tuple[Stack, list[str], Path]) -> None:
    assert built[0].functions[0].environment == {
        "QUEUE": "http://127.0.0.1:4566/123456789012/s-Tasks",
        "QUEUE_ARN": f"{ARN}:s-Tasks",
        "TABLE": "s-Table",
        "TABLE_ARN": "arn:aws:dynamodb:us-east-1:123456789012:table/s-Table",
        "BUCKET": "s-bucket",
        "TOPIC": "arn:aws:sns:us-east-1:123456789012:s-Topic",
        "WORKER": "arn:aws:lambda:us-east-1:123456789012:function:s-worker",
        "FLAG": "true",
    }


def test_routes(built: tuple[Stack, list[str], Path]) -> None:
    assert [(r.function, r.method, r.path, r.payload, r.stage) for r in built[0].routes] == [
        ("Api", "ANY", "$default", "2.0", "$default"),
        ("Api", "GET", "/x/{id}", "2.0", "$default"),
    ]


def test_queues(built: tuple[Stack, list[str], Path]) -> None:
    queues = {queue.name: dict(queue.attributes) for queue in built[0].queues}
    assert queues.keys() == {"s-Tasks", "morgue", "s-Ordered.fifo"}
    assert queues["s-Tasks"]["VisibilityTimeout"] == "180"
    policy = json.loads(queues["s-Tasks"]["RedrivePolicy"])
    assert policy == {"deadLetterTargetArn": f"{ARN}:morgue", "maxReceiveCount": 3}
    assert queues["s-Ordered.fifo"] == {"FifoQueue": "true"}


def test_mappings(built: tuple[Stack, list[str], Path]) -> None:
    (mapping,) = built[0].mappings
    assert (mapping.function, mapping.queue_arn) == ("s-worker", f"{ARN}:s-Tasks")
    assert (mapping.batch_size, mapping.batching_window_s) == (5, 2.0)
    assert (mapping.maximum_concurrency, mapping.report_batch_item_failures) == (3, True)
    assert mapping.filter_patterns == ({"body": {"a": [1]}},)
    assert mapping.enabled


def test_schedules(built: tuple[Stack, list[str], Path]) -> None:
    by_source = {schedule.source: schedule for schedule in built[0].schedules}
    scheduler, rule = by_source["scheduler"], by_source["rule"]
    assert (scheduler.expression, scheduler.input) == ("rate(1 minute)", '{"a":1}')
    assert scheduler.target_arn.endswith(":function:s-worker")
    assert (rule.expression, rule.enabled) == ("cron(0 12 * * ? *)", False)


def test_outputs_are_local_addresses(built: tuple[Stack, list[str], Path]) -> None:
    assert built[0].outputs == {
        "Url": "http://127.0.0.1/http/path",
        "Queue": "http://127.0.0.1:4566/123456789012/s-Tasks",
    }


def test_what_is_not_emulated_is_said_by_name_and_line(
    built: tuple[Stack, list[str], Path],
) -> None:
    _, notes, folder = built
    node = TEMPLATE[: TEMPLATE.index("  Node:")].count("\n") + 1
    assert notes[0] == (
        f"{folder}/template.yaml:{node}: Node cannot run here, its invocations fail: "
        "runtime 'nodejs22.x' is neither Python nor OS-only"
    )
    assert any("Strange is not emulated: AWS::Braket::Machine" in note for note in notes)
    assert len(notes) == 2


def test_moto_gets_no_mapping_no_function_and_no_reference(
    built: tuple[Stack, list[str], Path],
) -> None:
    resources = built[0].moto_template["Resources"]
    assert {name: item["Type"] for name, item in resources.items()} == {
        "Tasks": "AWS::SQS::Queue",
        "Dead": "AWS::SQS::Queue",
        "Ordered": "AWS::SQS::Queue",
        "Table": "AWS::DynamoDB::Table",
        "Bucket": "AWS::S3::Bucket",
        "Topic": "AWS::SNS::Topic",
    }
    text = json.dumps(built[0].moto_template)
    assert "Fn::" not in text
    assert '"Ref"' not in text
    assert resources["Tasks"]["DependsOn"] == ["Dead"]


def test_a_missing_code_directory_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  F:\n"
        "    Type: AWS::Serverless::Function\n"
        "    Properties: {Handler: a.b, Runtime: python3.13, CodeUri: gone/}\n"
    )
    made, notes = stack.build(template.load(path, {}, stack_name="s"), facts())
    (spec,) = made.functions
    assert spec.code_dir == spec.made_of == tmp_path / "gone"
    assert spec.where == f"{path}:3"
    assert notes == []


def test_versions_and_aliases_stand_for_their_function(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text("""
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    {CodeUri: src/, Runtime: python3.13, Handler: a.b, SnapStart: {ApplyOn: PublishedVersions}}
Resources:
  Aliased: {Type: AWS::Serverless::Function, Properties: {AutoPublishAlias: live}}
  Unpublished: {Type: AWS::Serverless::Function}
  Plain:
    Type: AWS::Serverless::Function
    Properties: {AutoPublishAlias: prod, SnapStart: {ApplyOn: None}}
""")
    loaded = template.load(tmp_path / "template.yaml", {}, stack_name="s")
    made, notes = stack.build(loaded, facts())
    assert {one.name: (set(one.qualifiers), one.snap_start) for one in made.functions} == {
        "Aliased": ({"1", "live"}, True),
        "Unpublished": (set(), False),  # of $LATEST there are no snapshots
        "Plain": ({"1", "prod"}, False),
    }
    assert notes == []


def test_references_to_what_belongs_to_functions(tmp_path: Path) -> None:
    """Each by "Return values" on the type's page of the CloudFormation template reference."""
    (tmp_path / "src").mkdir()
    path = tmp_path / "template.yaml"
    path.write_text("""
Resources:
  F:
    Type: AWS::Lambda::Function
    Properties:
      Handler: a.b
      Runtime: python3.12
      Code: {S3Bucket: twolane-local-path, S3Key: src}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref F, AuthType: NONE}}
  Version: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref F}}
  Live:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref F, FunctionVersion: !GetAtt Version.Version, Name: live}
  Layer: {Type: AWS::Lambda::LayerVersion, Properties: {LayerName: shared, Content: {}}}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {FunctionName: !Ref F, EventSourceArn: !GetAtt Queue.Arn}
  Queue: {Type: AWS::SQS::Queue}
  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {Name: rest}}
Outputs:
  A: {Value: !Ref Url}
  B: {Value: !Sub "${Version.Version} ${Version.FunctionArn}"}
  C: {Value: !GetAtt Live.AliasArn}
  D: {Value: !GetAtt Layer.LayerVersionArn}
  E: {Value: !Sub "${Mapping} ${Mapping.Id}"}
  F: {Value: !Sub "${Rest} ${Rest.RestApiId} ${Rest.RootResourceId}"}
""")
    made, notes = stack.build(template.load(path, {}, stack_name="s"), facts())
    function = "arn:aws:lambda:us-east-1:123456789012:function:F"
    assert made.outputs == {
        "A": function,
        "B": f"1 {function}:1",
        "C": f"{function}:live",
        "D": "arn:aws:lambda:us-east-1:123456789012:layer:shared:1",
        "E": "{0} {0}".format(identity_of(made.mappings[0])),
        "F": "rest rest s-Rest",
    }
    assert made.mappings[0].uuid == "Mapping"
    assert notes == []


def test_a_circle_of_values_is_said(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("""
Resources:
  Left: {Type: AWS::ECS::Cluster, Properties: {ClusterName: !Ref Right}}
  Right: {Type: AWS::ECS::Cluster, Properties: {ClusterName: !Sub "${Left}-twin"}}
Outputs: {Name: {Value: !Ref Left}}
""")
    with pytest.raises(TemplateError, match="Left → Right → Left is circular"):
        stack.build(template.load(path, {}, stack_name="s"), facts())
