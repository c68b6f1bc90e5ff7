"""Values that only moto has, and resources on which it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import boto3
import pytest
from tests.twolane_local import running

from twolane_local.aws.moto.process import without_open_values
from twolane_local.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

pytestmark = pytest.mark.usefixtures("own_environ")

CHAIN = """
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: orders}}
  Key: {Type: AWS::KMS::Key, Properties: {Tags: [{Key: team, Value: shop}]}}
  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/shop, TargetKeyId: !Ref Key}}
  Topic: {Type: AWS::SNS::Topic, Properties: {KmsMasterKeyId: !Ref Alias}}
  Queue: {Type: AWS::SQS::Queue}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      Name: !Sub "of-${Key}"
      EventBusName: !GetAtt Bus.Name
      EventPattern: {source: [shop]}
      Targets: [{Id: q, Arn: !GetAtt Queue.Arn}]
Outputs:
  Bus: {Value: !GetAtt Bus.Name}
  Alias: {Value: !Ref Alias}
"""
TO_WORKFLOW = """
Resources:
  Role: {Type: AWS::IAM::Role, Properties: {AssumeRolePolicyDocument: {Statement: []}}}
  Workflow:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      RoleArn: !GetAtt Role.Arn
      DefinitionString: '{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}'
  Orders:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [shop]}
      Targets: [{Id: w, Arn: !GetAtt Workflow.Arn, RoleArn: !GetAtt Role.Arn}]
  Daily:
    Type: AWS::Events::Rule
    Properties:
      ScheduleExpression: rate(1 day)
      Targets: [{Id: w, Arn: !Ref Workflow, RoleArn: !GetAtt Role.Arn}]
Outputs:
  Workflow: {Value: !Ref Workflow}
"""
STUMBLES = """
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Elsewhere:
    Type: AWS::KMS::Alias
    Properties:
      AliasName: alias/elsewhere
      TargetKeyId: arn:aws:kms:us-east-1:210987654321:key/1234abcd-12ab-34cd-56ef-1234567890ab
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: kept
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
Outputs:
  Alias: {Value: !Ref Elsewhere}
"""


def test_what_needs_an_open_value_waits() -> None:
    template = {
        "Resources": {"A": {"Type": "T"}, "B": {"Name": "of-twolane-not-yet-A-Arn"}},
        "Rules": [{"EventBusName": "twolane-not-yet-A-None"}, {"EventBusName": "default"}],
    }
    assert without_open_values(template) == {
        "Resources": {"A": {"Type": "T"}},
        "Rules": [{"EventBusName": "default"}],
    }


@pytest.mark.slow
def test_a_chain_of_values(tmp_path: Path) -> None:
    """A rule on a bus, a topic with an alias of a key: each is created once its needs are known."""
    path = tmp_path / "template.yaml"
    path.write_text(CHAIN)

    async def script(emulator: Emulator) -> None:
        assert not emulator.notes
        assert emulator.stack.outputs == {"Bus": "orders", "Alias": "alias/shop"}

    running.run(Options(path, port=0, aws_port=0), script)


@pytest.mark.slow
def test_a_rule_to_what_only_moto_knows(tmp_path: Path) -> None:
    """Before moto has the ARN of the state machine, the rule's target has none."""
    path = tmp_path / "template.yaml"
    path.write_text(TO_WORKFLOW)

    async def script(emulator: Emulator) -> None:
        workflow = emulator.stack.outputs["Workflow"]
        assert workflow.startswith("arn:aws:states:us-east-1:123456789012:stateMachine:")
        assert sorted(note.partition(": ")[2] for note in emulator.notes) == [
            f"{name} is not emulated: nothing is sent to {workflow}" for name in ("Daily", "Orders")
        ]

    running.run(Options(path, port=0, aws_port=0), script)


@pytest.mark.slow
def test_a_resource_that_moto_stumbles_over_is_named(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(STUMBLES)

    async def script(emulator: Emulator) -> None:
        (note,) = emulator.notes
        assert note.startswith(f"{path}:4: Elsewhere is not emulated: moto cannot create it")
        tables = boto3.client(
            "dynamodb", endpoint_url=emulator.addresses.aws, region_name="us-east-1"
        )
        listed = await asyncio.to_thread(tables.list_tables)
        assert listed["TableNames"] == ["kept"]

    running.run(Options(path, port=0, aws_port=0), script)
