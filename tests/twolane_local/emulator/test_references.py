"""Templates that refer to resources that are not emulated start, and get values for them."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest

from twolane_local.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

    from ...conftest import Emulate  # noqa: TID252

ACCOUNT = "us-east-1:123456789012"
SHOP = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Network: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.1.0.0/16}}
  Left: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Network, CidrBlock: 10.1.1.0/24}}
  Wall:
    Type: AWS::EC2::SecurityGroup
    Properties: {GroupDescription: all, VpcId: !GetAtt Network.VpcId}
  Cache:
    Type: AWS::ElastiCache::ReplicationGroup
    Properties: {ReplicationGroupDescription: a cache, SecurityGroupIds: [!Ref Wall]}
  Books: {Type: AWS::RDS::DBInstance, Properties: {Engine: mysql}}
  Readers: {Type: AWS::Cognito::UserPool}
  Browser: {Type: AWS::Cognito::UserPoolClient, Properties: {UserPoolId: !Ref Readers}}
  Site: {Type: AWS::CloudFront::Distribution, Properties: {DistributionConfig: {Enabled: true}}}
  Shelf: {Type: AWS::EFS::FileSystem}
  Search: {Type: AWS::OpenSearchService::Domain, Properties: {DomainName: titles}}
  Graph: {Type: AWS::AppSync::GraphQLApi, Properties: {Name: graph, AuthenticationType: API_KEY}}
  Lock: {Type: AWS::CertificateManager::Certificate, Properties: {DomainName: shop.example}}
  Shop: {Type: AWS::ECS::Cluster, Properties: {ClusterName: shop}}
  Setup: {Type: "Custom::Setup", Properties: {ServiceToken: !Ref Network}}
  Deep: {Type: AWS::CloudFormation::Stack, Properties: {TemplateURL: "https://s3/deep.yaml"}}
  Tell:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Runtime: python3.12
      Handler: shop.tell
      Events: {All: {Type: HttpApi, Properties: {Path: /tell, Method: get}}}
      Environment:
        Variables:
          VALUES: !Join
            - ";"
            - - !Ref Network
              - !Select [0, !GetAtt Network.CidrBlockAssociations]
              - !Ref Left
              - !GetAtt Wall.GroupId
              - !Sub "${Cache.PrimaryEndPoint.Address}:${Cache.PrimaryEndPoint.Port}"
              - !Sub "${Books.Endpoint.Address}:${Books.Endpoint.Port}"
              - !Ref Readers
              - !Ref Browser
              - !Sub "https://${Site.DomainName}/"
              - !GetAtt Shelf.Arn
              - !Ref Search
              - !GetAtt Graph.GraphQLUrl
              - !Ref Lock
              - !GetAtt Shop.Arn
              - !GetAtt Setup.TopicArn
              - !GetAtt Deep.Outputs.QueueName
"""
VALUES = [
    "vpc-Network",
    "local-Network",
    "subnet-Left",
    "sg-Wall",
    "cache.elasticache.invalid:6379",
    "books.rds.invalid:3306",
    "us-east-1_Readers",
    "local-Browser",
    "https://site.cloudfront.invalid/",
    f"arn:aws:elasticfilesystem:{ACCOUNT}:file-system/fs-Shelf",
    "titles",
    "https://graph.appsync.invalid",
    f"arn:aws:acm:{ACCOUNT}:certificate/local-Lock",
    f"arn:aws:ecs:{ACCOUNT}:cluster/shop",
    f"arn:aws:custom:{ACCOUNT}:setup/local-Setup",
    "local-Deep",
]
CODE = """
import os

def tell(event, context):
    return {"values": os.environ["VALUES"].split(";")}
"""


def project(folder: Path, template: str) -> Path:
    (folder / "src").mkdir()
    (folder / "src" / "shop.py").write_text(CODE)
    (folder / "template.yaml").write_text(template)
    return folder / "template.yaml"


async def told(emulator: Emulator) -> list[str]:
    url = next(iter(emulator.addresses.apis.values()))
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        answer = await client.get("/tell")
    assert answer.status_code == 200, answer.text
    values: list[str] = answer.json()["values"]
    return values


@pytest.fixture(autouse=True)
def own_process(own_environ: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_references_to_what_is_not_played_have_values(tmp_path: Path, emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        assert await told(emulator) == VALUES
        unplayed = [note for note in emulator.notes if "is not emulated" in note]
        assert len(unplayed) == 14
        assert len(emulator.notes) == 14

    emulate(Options(project(tmp_path, SHOP), port=0, aws_port=0), script)


def small(variables: str, resources: str = "", head: str = "") -> str:
    return f"""
Transform: AWS::Serverless-2016-10-31
{head}
Resources:
  Tell:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src/
      Runtime: python3.12
      Handler: shop.tell
      Events: {{All: {{Type: HttpApi, Properties: {{Path: /tell, Method: get}}}}}}
      Environment: {{Variables: {{VALUES: !Join [";", [{variables}]]}}}}
{resources}
"""


@pytest.mark.slow
def test_an_attribute_that_moto_does_not_have(tmp_path: Path, emulate: Emulate) -> None:
    """moto has ``Arn``, but not the other two; the last does not exist on AWS either."""
    template = small(
        "!GetAtt Key.Arn, !GetAtt Machine.StateMachineRevisionId, !GetAtt Key.Colour",
        """
  Key: {Type: AWS::KMS::Key, Properties: {KeyPolicy: {Version: "2012-10-17", Statement: []}}}
  Machine:
    Type: AWS::StepFunctions::StateMachine
    Properties:
      RoleArn: arn:aws:iam::123456789012:role/any
      DefinitionString: '{"StartAt": "A", "States": {"A": {"Type": "Succeed"}}}'
""",
    )

    async def script(emulator: Emulator) -> None:
        arn, revision, colour = await told(emulator)
        assert arn.startswith(f"arn:aws:kms:{ACCOUNT}:key/")
        assert (revision, colour) == ("local-Machine", "local-Key")
        (note,) = emulator.notes
        assert "Key.Colour is a placeholder: AWS::KMS::Key has no such attribute" in note

    emulate(Options(project(tmp_path, template), port=0, aws_port=0), script)


def test_what_other_stacks_export(tmp_path: Path, emulate: Emulate) -> None:
    template = small(
        "!ImportValue net-VpcId, !ImportValue {'Fn::Sub': '${AWS::StackName}-Url'},"
        "!ImportValue net-KeyArn"
    )

    async def script(emulator: Emulator) -> None:
        assert await told(emulator) == [
            "vpc-7",
            "https://local-url.invalid",
            f"arn:aws:unknown:{ACCOUNT}:net-KeyArn",
        ]
        (note,) = emulator.notes
        assert "local-Url, net-KeyArn: ImportValue takes this from another stack" in note
        assert "--import local-Url=VALUE" in note

    options = Options(
        project(tmp_path, template), port=0, aws_port=0, imports={"net-VpcId": "vpc-7"}
    )
    emulate(options, script)


def test_dynamic_references_and_parameters_in_the_store(tmp_path: Path, emulate: Emulate) -> None:
    template = small(
        "'{{resolve:ssm:/shop/host}}:{{resolve:ssm:/shop/port:1}}',"
        "'{{resolve:secretsmanager:shop-secret:SecretString:password}}', !Ref HostName,"
        "!Join ['+', !Ref ZoneNames], '{{resolve:ssm-secure:/nobody/has/this}}',"
        "'{{resolve:secretsmanager:shop-secret:SecretString:colour}}', !Ref Elsewhere",
        """
  Host: {Type: AWS::SSM::Parameter, Properties: {Name: /shop/host, Type: String, Value: db}}
  Port: {Type: AWS::SSM::Parameter, Properties: {Name: /shop/port, Type: String, Value: "12"}}
  Zones:
    Type: AWS::SSM::Parameter
    Properties: {Name: /shop/zones, Type: StringList, Value: "a,b"}
  Secret:
    Type: AWS::SecretsManager::Secret
    Properties: {Name: shop-secret, SecretString: '{"password": "open sesame"}'}
""",
        """
Parameters:
  HostName: {Type: AWS::SSM::Parameter::Value<String>, Default: /shop/host}
  ZoneNames: {Type: "AWS::SSM::Parameter::Value<List<String>>", Default: /shop/zones}
  Elsewhere: {Type: "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", Default: /aws/ami}
""",
    )

    async def script(emulator: Emulator) -> None:
        assert await told(emulator) == [
            "db:12",
            "open sesame",
            "db",
            "a+b",
            "ssm-secure:/nobody/has/this",
            "secretsmanager:shop-secret:SecretString:colour",
            "ssm:/aws/ami",
        ]
        (note,) = emulator.notes
        assert (
            "secretsmanager:shop-secret:SecretString:colour, ssm-secure:/nobody/has/this, "
            "ssm:/aws/ami: no parameter or secret of that name is here"
        ) in note

    emulate(Options(project(tmp_path, template), port=0, aws_port=0), script)


@pytest.mark.slow
def test_a_secret_of_the_template_is_there(tmp_path: Path, emulate: Emulate) -> None:
    template = small(
        "!Ref Login, !Sub '{{resolve:secretsmanager:${Login}:SecretString:user}}',"
        "'{{resolve:secretsmanager:local-Login:SecretString:word}}'",
        """
  Login:
    Type: AWS::SecretsManager::Secret
    Properties:
      GenerateSecretString:
        SecretStringTemplate: '{"user": "ann"}'
        GenerateStringKey: word
        PasswordLength: 40
        ExcludePunctuation: true
""",
    )

    async def script(emulator: Emulator) -> None:
        arn, user, word = await told(emulator)
        assert (arn, user) == (f"arn:aws:secretsmanager:{ACCOUNT}:secret:local-Login", "ann")
        assert len(word) == 40
        assert word.isalnum()
        assert not emulator.notes
        client: Any = boto3.client("secretsmanager", **client_options(emulator))
        answer = await asyncio.to_thread(client.get_secret_value, SecretId=arn)
        assert json.loads(answer["SecretString"]) == {"user": "ann", "word": word}

    emulate(Options(project(tmp_path, template), port=0, aws_port=0), script)


def client_options(emulator: Emulator) -> dict[str, str]:
    return {
        "endpoint_url": emulator.addresses.aws,
        "region_name": "us-east-1",
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
    }


def test_a_dynamic_reference_starts_no_moto(tmp_path: Path, emulate: Emulate) -> None:
    """Nothing of the template can be in it."""
    template = small("'{{resolve:ssm:/shop/host}}'")

    async def script(emulator: Emulator) -> None:
        assert await told(emulator) == ["ssm:/shop/host"]
        assert emulator._moto._process is None

    emulate(Options(project(tmp_path, template), port=0, aws_port=0), script)


@pytest.mark.slow
def test_a_parameter_that_was_put_is_found_on_a_reload(tmp_path: Path, emulate: Emulate) -> None:
    path = project(tmp_path, small("'{{resolve:ssm:/shop/host}}'"))

    async def script(emulator: Emulator) -> None:
        assert await told(emulator) == ["ssm:/shop/host"]

        def put() -> None:
            client: Any = boto3.client("ssm", **client_options(emulator))
            client.put_parameter(Name="/shop/host", Value="db.local", Type="String")

        await asyncio.to_thread(put)
        path.write_text(path.read_text() + "# saved\n")
        async with asyncio.timeout(20):
            while await told(emulator) != ["db.local"]:
                await asyncio.sleep(0.05)
        assert not emulator.notes

    emulate(Options(path, port=0, aws_port=0, reload=True), script)
