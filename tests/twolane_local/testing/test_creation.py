"""What moto holds of a template: made with the first call that may meet it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane_local.testing.project import of_template

from .conftest import TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from twolane_local.testing.stack import Twolane

TEMPLATE = (
    TABLE
    + """\
  Bucket: {Type: AWS::S3::Bucket}
  Sender: {Type: AWS::SES::EmailIdentity, Properties: {EmailIdentity: shop.example}}
"""
)
MAIL: dict[str, Any] = {
    "Destination": {"ToAddresses": ["ann@example.com"]},
    "Content": {"Simple": {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}}},
}


@pytest.fixture
def stack(make: Callable[..., Twolane], tmp_path: Path) -> Twolane:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return make(of_template(tmp_path / "template.yaml", {}))


def tables() -> list[str]:
    from moto.dynamodb.models import dynamodb_backends

    return list(dynamodb_backends["123456789012"]["us-east-1"].tables)


def test_mail_makes_its_senders_and_no_table(stack: Twolane) -> None:
    assert stack
    ses = boto3.client("sesv2", region_name="us-east-1")
    ses.send_email(FromEmailAddress="us@shop.example", **MAIL)
    assert tables() == []
    with pytest.raises(ses.exceptions.MessageRejected):
        ses.send_email(FromEmailAddress="us@elsewhere.example", **MAIL)
    assert boto3.client("dynamodb", region_name="us-east-1").list_tables()["TableNames"] == [
        "local-Table"
    ]


def test_any_other_service_makes_all_of_it_once(stack: Twolane) -> None:
    assert stack
    boto3.client("sts", region_name="us-east-1").get_caller_identity()
    assert tables() == ["local-Table"]
    table = boto3.resource("dynamodb", region_name="us-east-1").Table("local-Table")
    table.put_item(Item={"id": "1"})
    assert [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]] == ["local-bucket"]
    assert table.scan()["Items"] == [{"id": "1"}]
    identities = boto3.client("ses", region_name="us-east-1").list_identities()["Identities"]
    assert identities == ["shop.example"]


def test_regions_are_looked_up_as_moto_does(stack: Twolane) -> None:
    assert stack
    from moto.dynamodb.models import dynamodb_backends

    known = dynamodb_backends["123456789012"].regions
    assert {"us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1"} <= set(known)
    assert set(boto3.Session().get_available_regions("dynamodb")) <= set(known)
