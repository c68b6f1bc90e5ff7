"""What a test's template leaves to moto: made when something asks for it, as few tests do."""

from __future__ import annotations

import importlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest import mock

from twolane_local.model import ACCOUNT, REGION
from twolane_local.template.names import NAME_PROPERTY

if TYPE_CHECKING:
    from collections.abc import Mapping

#: moto's classes of what most templates hold. Its CloudFormation imports half of moto, and reads
#: a template as YAML, which takes longer than most tests.
_DIRECT = {
    "AWS::DynamoDB::Table": ("moto.dynamodb.models.table", "Table"),
    "AWS::S3::Bucket": ("moto.s3.models", "FakeBucket"),
    "AWS::SNS::Topic": ("moto.sns.models", "Topic"),
}


class Creation:
    """Asked before each call that moto answers."""

    def __init__(self, template: Mapping[str, Any]) -> None:
        """``template`` is a stack's ``moto_template``."""
        self._rest: dict[str, Any] = dict(template)
        self._senders = self._rest.pop("Identities", [])
        self._missing = True

    def before(self, service: str) -> None:
        """Have moto create what a call to the service may meet: mail meets senders, and neither
        tables nor buckets.
        """
        if self._senders:
            from twolane_local.aws.moto.child import verify_senders

            senders, self._senders = self._senders, []
            verify_senders(senders)
        if self._missing and service != "ses":
            self._missing = False
            _create(self._rest)


def _create(template: Mapping[str, Any]) -> None:
    """Have moto create what the template leaves to it."""
    from moto.kms import models

    from twolane_local.aws.moto import child

    wanted = json.loads(json.dumps(template, default=str))
    # The queues are ours, here as in name.
    wanted["Resources"] = {
        name: resource
        for name, resource in wanted["Resources"].items()
        if resource["Type"] != "AWS::SQS::Queue"
    }
    for resource in wanted["Resources"].values():
        kept = [name for name in resource.get("DependsOn", ()) if name in wanted["Resources"]]
        resource["DependsOn"] = kept
    # A table has a key of its own, and an RSA key takes longer to find than most tests take.
    with mock.patch.object(models, "generate_private_key", _private_key):
        if all(resource["Type"] in _DIRECT for resource in wanted["Resources"].values()):
            _create_directly(wanted.pop("Resources"))
            wanted["Resources"] = {}
        child.create("local", wanted)
    _expiring(template["Resources"])


def _create_directly(resources: Mapping[str, Any]) -> None:
    """By the methods that moto's CloudFormation calls."""
    for resource in resources.values():
        module, kind = _DIRECT[resource["Type"]]
        made = getattr(importlib.import_module(module), kind)
        name = resource["Properties"][NAME_PROPERTY[resource["Type"]]]
        made.create_from_cloudformation_json(name, resource, ACCOUNT, REGION)


def _expiring(resources: Mapping[str, Any]) -> None:
    """moto's CloudFormation passes over a table's time to live."""
    for resource in resources.values():
        properties = resource.get("Properties") or {}
        if "TimeToLiveSpecification" in properties:
            from moto.dynamodb.models import dynamodb_backends

            dynamodb_backends[ACCOUNT][REGION].update_time_to_live(
                properties["TableName"], properties["TimeToLiveSpecification"]
            )


@cache
def _private_key(spec: str) -> Any:
    from moto.kms.utils import generate_private_key

    return generate_private_key(spec)
