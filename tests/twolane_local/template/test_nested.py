from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local import template
from twolane_local.errors import TemplateError
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

PARENT = """
Transform: AWS::Serverless-2016-10-31
Parameters: {Size: {Type: Number, Default: 256}}
Resources:
  Shared: {Type: AWS::SQS::Queue}
  Orders:
    Type: AWS::Serverless::Application
    Properties:
      Location: child/template.yaml
      Parameters: {Target: !GetAtt Shared.Arn, Memory: !Ref Size, Stage: prod}
  Front:
    Type: AWS::Serverless::Function
    Properties:
      Handler: a.b
      CodeUri: .
      Runtime: python3.13
      Environment:
        Variables:
          FUNCTION: !GetAtt Orders.Outputs.Name
          TEXT: !Sub "to ${Orders.Outputs.Queue}"
"""
CHILD = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Target: {Type: String}
  Memory: {Type: Number, Default: 128}
  Stage: {Type: String, Default: dev}
Conditions: {Prod: !Equals [!Ref Stage, prod]}
Mappings: {Limits: {prod: {seconds: 20}, dev: {seconds: 5}}}
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: w.handler
      CodeUri: src
      Runtime: python3.13
      MemorySize: !Ref Memory
      Timeout: !FindInMap [Limits, !Ref Stage, seconds]
      Environment:
        Variables:
          TARGET: !Ref Target
          WHERE: !Sub "${Target} ${Own.QueueName} ${Stage}"
          KIND: !If [Prod, real, test]
      Events: {Own: {Type: SQS, Properties: {Queue: !GetAtt Own.Arn}}}
  Own: {Type: AWS::SQS::Queue}
  Extra: {Type: AWS::SQS::Queue, Condition: Prod, DependsOn: Own}
Outputs:
  Name: {Value: !Ref Worker}
  Queue: {Value: !GetAtt Own.QueueName}
"""
ARN = "arn:aws:sqs:us-east-1:123456789012"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "child" / "src").mkdir(parents=True)
    (tmp_path / "child" / "template.yaml").write_text(CHILD)
    (tmp_path / "template.yaml").write_text(PARENT)
    return tmp_path


def test_a_nested_stack_is_part_of_its_parent(folder: Path) -> None:
    loaded = template.load(folder / "template.yaml", {"Size": "512"}, stack_name="s")
    facts = stack.BuildContext("http://127.0.0.1:1", lambda _: "", lambda *_: "")
    made, notes = stack.build(loaded, facts)
    assert notes == []
    functions = {spec.logical_id: spec for spec in made.functions}
    worker = functions["OrdersWorker"]
    assert worker.code_dir == (folder / "child" / "src").resolve()
    assert (worker.memory_mb, worker.timeout_s) == (512, 20.0)
    assert worker.environment == {
        "TARGET": f"{ARN}:s-Shared",
        "WHERE": f"{ARN}:s-Shared s-OrdersOwn prod",
        "KIND": "real",
    }
    assert functions["Front"].environment == {
        "FUNCTION": "OrdersWorker",
        "TEXT": "to s-OrdersOwn",
    }
    (mapping,) = made.mappings
    assert (mapping.function, mapping.queue_arn) == ("OrdersWorker", f"{ARN}:s-OrdersOwn")
    assert {queue.name for queue in made.queues} == {"s-Shared", "s-OrdersOwn", "s-OrdersExtra"}


def test_a_missing_child_is_named(folder: Path) -> None:
    (folder / "child" / "template.yaml").unlink()
    with pytest.raises(
        TemplateError, match=r"Orders's template 'child/template\.yaml' is not a file"
    ):
        template.load(folder / "template.yaml", {}, stack_name="s")


def test_an_output_that_is_not_there_is_named(folder: Path) -> None:
    path = folder / "template.yaml"
    path.write_text(PARENT.replace("Outputs.Name", "Outputs.Nope"))
    with pytest.raises(TemplateError, match=r"Orders has no output 'Outputs\.Nope'"):
        template.load(path, {}, stack_name="s")


OFF = """
Conditions: {Wanted: !Equals [a, b]}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Child:
    Type: AWS::CloudFormation::Stack
    Condition: Wanted
    Properties:
      TemplateURL: child/template.yaml
      Parameters: {Kind: !GetAtt Queue.QueueName}
"""
CONDITIONAL = """
Parameters: {Kind: {Type: String, AllowedValues: [s-Queue]}}
Conditions: {Always: !Equals [!Ref Kind, !Ref Kind]}
Resources:
  Always: {Type: AWS::SQS::Queue, Condition: Always}
  Plain: {Type: AWS::SQS::Queue}
"""


@pytest.mark.parametrize(
    ("condition", "expected"), [("[a, b]", []), ("[a, a]", ["Always", "Plain"])]
)
def test_a_childs_conditions_hold_only_where_its_stack_is_wanted(
    folder: Path, condition: str, expected: list[str]
) -> None:
    (folder / "child" / "template.yaml").write_text(CONDITIONAL)
    (folder / "template.yaml").write_text(OFF.replace("[a, b]", condition))
    loaded = template.load(folder / "template.yaml", {}, stack_name="s")
    assert sorted(loaded.resources) == [*(f"Child{name}" for name in expected), "Queue"]


CHAIN = """
Resources:
  First: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: child/template.yaml}}
  Second:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: child/template.yaml
      Parameters: {Name: !If [Yes, !GetAtt First.Outputs.Queue, none]}
Conditions: {Yes: !Equals [a, a]}
"""
LINK = """
Parameters: {Name: {Type: String, Default: none}}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Told: {Type: AWS::SNS::Topic, Properties: {DisplayName: !Ref Name}}
Outputs:
  Queue: {Value: !GetAtt Queue.QueueName}
"""


def test_a_nested_stack_is_given_what_another_puts_out(folder: Path) -> None:
    (folder / "child" / "template.yaml").write_text(LINK)
    (folder / "template.yaml").write_text(CHAIN)
    loaded = template.load(folder / "template.yaml", {}, stack_name="s")
    facts = stack.BuildContext("http://127.0.0.1:1", lambda _: "", lambda *_: "")
    made, _ = stack.build(loaded, facts)
    told = {
        name: made.moto_template["Resources"][name]["Properties"]
        for name in ("FirstTold", "SecondTold")
    }
    assert told["FirstTold"]["DisplayName"] == "none"
    assert told["SecondTold"]["DisplayName"] == "s-FirstQueue"


def test_a_key_beside_others_is_no_function(folder: Path) -> None:
    path = folder / "template.yaml"
    path.write_text('"Fn::Sub": a note\n' + path.read_text())
    resources = template.load(path, {}, stack_name="local").resources
    assert {"Shared", "Front", "OrdersWorker"} <= resources.keys()
