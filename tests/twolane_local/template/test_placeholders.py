"""A value for each Ref and GetAtt, of the form that AWS's has."""

from __future__ import annotations

from typing import Any

import pytest

from twolane_local.template import placeholders
from twolane_local.template.placeholders import Placeholder, placeholder_for_name

ACCOUNT = "us-east-1:123456789012"


def stand_in(kind: str, **given: Any) -> Placeholder:
    return Placeholder(kind, "Main", "local-Main", given.get)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Each by "Return values" on the type's page of the CloudFormation template reference.
        ("AWS::ApiGateway::Deployment", "local-Main"),
        ("AWS::AppSync::GraphQLApi", f"arn:aws:appsync:{ACCOUNT}:apis/local-Main"),
        ("AWS::CertificateManager::Certificate", f"arn:aws:acm:{ACCOUNT}:certificate/local-Main"),
        ("AWS::CloudFront::Distribution", "local-Main"),
        ("AWS::Cognito::UserPool", "us-east-1_Main"),
        ("AWS::Cognito::IdentityPool", "us-east-1:Main"),
        ("AWS::EC2::VPC", "vpc-Main"),
        ("AWS::EC2::Subnet", "subnet-Main"),
        ("AWS::EC2::SecurityGroup", "sg-Main"),
        ("AWS::EC2::EIP", "192.0.2.1"),
        ("AWS::ECS::Service", f"arn:aws:ecs:{ACCOUNT}:service/local-Main"),
        ("AWS::EFS::FileSystem", "fs-Main"),
        ("AWS::EFS::AccessPoint", "fsap-Main"),
        ("AWS::IAM::ManagedPolicy", "arn:aws:iam::123456789012:policy/local-Main"),
        ("AWS::OpenSearchService::Domain", "local-Main"),
        ("AWS::WAFv2::WebACL", "local-Main|local-Main|REGIONAL"),
        ("Custom::Thing", "local-Main"),
        ("AWS::Nothing::OfThisName", "local-Main"),
    ],
)
def test_ref(kind: str, expected: str) -> None:
    assert stand_in(kind).ref() == expected


@pytest.mark.parametrize(
    ("kind", "attribute", "expected"),
    [
        ("AWS::AppSync::GraphQLApi", "GraphQLUrl", "https://main.appsync.invalid"),
        ("AWS::CloudFront::Distribution", "DomainName", "main.cloudfront.invalid"),
        ("AWS::Cognito::UserPool", "Arn", f"arn:aws:cognito-idp:{ACCOUNT}:userpool/us-east-1_Main"),
        (
            "AWS::Cognito::UserPool",
            "ProviderURL",
            "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_Main",
        ),
        ("AWS::EC2::VPC", "DefaultSecurityGroup", "sg-Main"),
        ("AWS::EC2::VPC", "CidrBlockAssociations", ["local-Main"]),
        ("AWS::EC2::VPCEndpoint", "DnsEntries", ["Z0123456789:main.ec2.invalid"]),
        ("AWS::EFS::FileSystem", "Arn", f"arn:aws:elasticfilesystem:{ACCOUNT}:file-system/fs-Main"),
        ("AWS::ElastiCache::ReplicationGroup", "PrimaryEndPoint.Port", "6379"),
        (
            "AWS::ElastiCache::ReplicationGroup",
            "PrimaryEndPoint.Address",
            "main.elasticache.invalid",
        ),
        ("AWS::DocDB::DBCluster", "Endpoint", "main.docdb.invalid"),
        ("AWS::RDS::DBInstance", "DBInstanceArn", f"arn:aws:rds:{ACCOUNT}:db:local-Main"),
        (
            "AWS::RDS::DBCluster",
            "MasterUserSecret.SecretArn",
            f"arn:aws:secretsmanager:{ACCOUNT}:secret:local-Main",
        ),
        ("Custom::Thing", "TableArn", f"arn:aws:custom:{ACCOUNT}:thing/local-Main"),
        ("Custom::Thing", "SiteUrl", "https://main.custom.invalid"),
        ("Custom::Thing", "Colour", "local-Main"),
    ],
)
def test_get_att(kind: str, attribute: str, expected: Any) -> None:
    assert stand_in(kind).attribute(attribute) == expected


def test_what_the_template_gives_is_the_value() -> None:
    assert stand_in("AWS::OpenSearchService::Domain", DomainName="books").ref() == "books"
    assert stand_in("AWS::Cognito::UserPoolGroup", GroupName="staff").ref() == "staff"
    assert stand_in("AWS::EC2::VPC", CidrBlock="10.0.0.0/16").attribute("CidrBlock") == (
        "10.0.0.0/16"
    )
    database = stand_in("AWS::RDS::DBInstance", Engine="postgres")
    assert database.attribute("Endpoint.Port") == "5432"


def test_each_type_that_cloudformation_has_gives_a_value() -> None:
    kinds = [line.partition(" ")[0] for line in placeholders.FILE.read_text().splitlines()]
    assert len(kinds) > 1000
    for kind in kinds:
        made = stand_in(kind)
        assert made.ref(), kind
        assert placeholders.ref_property(kind), kind
        row = placeholders.row(kind)
        assert row is not None
        for attribute in row["read_only"]:
            value = made.attribute(attribute)
            assert value, (kind, attribute)
            if attribute.endswith("Arn") and isinstance(value, str):
                assert value.startswith("arn:aws:"), (kind, attribute)
                assert "$" not in value, (kind, attribute)
                assert len(value.split(":", 5)) == 6, (kind, attribute)


def test_which_attributes_a_type_has() -> None:
    assert placeholders.has_attribute("AWS::RDS::DBInstance", "Endpoint.Address")
    assert placeholders.has_attribute("AWS::CloudFormation::Stack", "Outputs.Url")
    assert placeholders.has_attribute("Custom::Thing", "Anything")
    assert placeholders.has_attribute("AWS::CloudFormation::CustomResource", "Anything")
    assert not placeholders.has_attribute("AWS::EC2::VPC", "VpcIdd")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network-VpcId", "network-VpcId"),
        ("network-QueueArn", f"arn:aws:unknown:{ACCOUNT}:network-QueueArn"),
        ("shared:ApiUrl", "https://shared-apiurl.invalid"),
    ],
)
def test_by_the_name_alone(name: str, expected: str) -> None:
    assert placeholder_for_name(name) == expected
