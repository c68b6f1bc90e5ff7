"""Reads the names that a template gives its resources, and what they consist of.

CloudFormation shortens the names that it generates, and makes them unique. It does not change a
name from the template: if that is too long, or not unique, the deployment fails.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-name.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.values import Resolver, pseudo_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.template import Template

#: The scope in which a name must be unique.
REGION, ACCOUNT, WORLD = "in its account and region", "in its account", "in all accounts"


@dataclass(frozen=True, slots=True)
class NameRules:
    """AWS's limits for the names of one kind of resource."""

    name_property: str
    longest: int
    unique_in: str | None = REGION


#: The lengths are those of each service's API, in its Create… action.
NAME_RULES: Mapping[str, NameRules] = {
    "AWS::ApiGatewayV2::Api": NameRules("Name", 128, None),
    "AWS::CloudWatch::Alarm": NameRules("AlarmName", 255),
    "AWS::CloudWatch::CompositeAlarm": NameRules("AlarmName", 255),
    "AWS::CloudWatch::Dashboard": NameRules("DashboardName", 255, ACCOUNT),
    "AWS::DynamoDB::Table": NameRules("TableName", 255),
    "AWS::ECR::Repository": NameRules("RepositoryName", 256),
    "AWS::ECS::Cluster": NameRules("ClusterName", 255),
    "AWS::ECS::Service": NameRules("ServiceName", 255, None),
    "AWS::ECS::TaskDefinition": NameRules("Family", 255, None),
    "AWS::ElastiCache::CacheCluster": NameRules("ClusterName", 50),
    "AWS::ElastiCache::ReplicationGroup": NameRules("ReplicationGroupId", 40),
    "AWS::ElastiCache::ServerlessCache": NameRules("ServerlessCacheName", 40),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": NameRules("Name", 32),
    "AWS::ElasticLoadBalancingV2::TargetGroup": NameRules("Name", 32),
    "AWS::Events::EventBus": NameRules("Name", 256),
    "AWS::Events::Rule": NameRules("Name", 64),
    "AWS::IAM::Group": NameRules("GroupName", 128, ACCOUNT),
    "AWS::IAM::InstanceProfile": NameRules("InstanceProfileName", 128, ACCOUNT),
    "AWS::IAM::ManagedPolicy": NameRules("ManagedPolicyName", 128, ACCOUNT),
    "AWS::IAM::Role": NameRules("RoleName", 64, ACCOUNT),
    "AWS::IAM::User": NameRules("UserName", 64, ACCOUNT),
    "AWS::Kinesis::Stream": NameRules("Name", 128),
    "AWS::Lambda::Function": NameRules("FunctionName", 64),
    "AWS::Lambda::LayerVersion": NameRules("LayerName", 140, None),
    "AWS::Logs::LogGroup": NameRules("LogGroupName", 512),
    "AWS::RDS::DBCluster": NameRules("DBClusterIdentifier", 63),
    "AWS::RDS::DBInstance": NameRules("DBInstanceIdentifier", 63),
    "AWS::S3::Bucket": NameRules("BucketName", 63, WORLD),
    "AWS::SES::EmailIdentity": NameRules("EmailIdentity", 320),
    "AWS::SNS::Topic": NameRules("TopicName", 256),
    "AWS::SQS::Queue": NameRules("QueueName", 80),
    "AWS::SSM::Parameter": NameRules("Name", 1011),
    "AWS::Scheduler::Schedule": NameRules("Name", 64),
    "AWS::Scheduler::ScheduleGroup": NameRules("Name", 64),
    "AWS::SecretsManager::Secret": NameRules("Name", 512),
    "AWS::StepFunctions::StateMachine": NameRules("StateMachineName", 80),
}
#: An account has an address or a domain only once, also if a parameter names it.
ALWAYS_UNIQUE = frozenset({"AWS::SES::EmailIdentity"})
#: These have the same value in every stack of an account and region.
_SHARED = frozenset({"AWS::AccountId", "AWS::Partition", "AWS::Region", "AWS::URLSuffix"})
_STACK = "\0stack\0"
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")


@dataclass(frozen=True, slots=True)
class GivenName:
    """A name that the template gives. ``times`` is how often the stack's name is in it, ``fixed``
    the number of other characters, both ``None`` if known only after a deployment. ``depends``: on
    the stack's name, a parameter or a resource.
    """

    kind: str
    rules: NameRules
    fixed: int | None
    times: int | None
    depends: bool


def given_names(loaded: Template) -> Iterator[tuple[str, GivenName]]:
    """Yield the name of each resource of a known kind to which the template gives one."""
    parameters = {**loaded.parameters, **pseudo_parameters(_STACK)}
    resolve = Resolver(
        parameters,
        conditions=loaded.conditions,
        mappings=loaded.mappings,
        ref=_unknown,
        attribute=_unknown,
    )
    for logical_id, resource in loaded.resources.items():
        kind = NAME_RULES.get(str(resource["Type"]))
        properties = resource.get("Properties") or {}
        if kind is None or kind.name_property not in properties:
            continue
        value = properties[kind.name_property]
        text = _text(resolve, value)
        times = None if text is None else text.count(_STACK)
        fixed = None if text is None or times is None else len(text) - times * len(_STACK)
        # A schedule's name is unique in its group only.
        shared = set() if "GroupName" not in properties else _references(properties["GroupName"])
        depends = not (_references(value) | shared) <= _SHARED
        yield logical_id, GivenName(str(resource["Type"]), kind, fixed, times, depends)


def _unknown(*_: str) -> Any:
    raise KeyError


def _text(resolve: Resolver, value: Any) -> str | None:
    try:
        text = resolve(value)
    except (TemplateError, KeyError, TypeError, IndexError, ValueError):
        return None
    return text if isinstance(text, str) else None


def _references(value: Any) -> set[str]:
    """Return the parameters, resources, pseudo parameters and exports in an expression."""
    if isinstance(value, list):
        return set().union(*map(_references, value))
    if not isinstance(value, dict):
        return set()
    found: set[str] = set()
    for name, argument in value.items():
        if name in {"Ref", "Fn::ImportValue"}:
            found.add(str(argument))
        elif name == "Fn::GetAtt":
            found.add(str(argument[0] if isinstance(argument, list) else argument))
        elif name == "Fn::Sub":
            text = argument[0] if isinstance(argument, list) else argument
            own = argument[1] if isinstance(argument, list) else {}
            found |= set(_VARIABLE.findall(str(text))) - set(own)
            found |= _references(list(own.values()))
        else:
            found |= _references(argument)
    return found
