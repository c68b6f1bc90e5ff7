"""The names that a template gives its resources itself, and what they are made of.

CloudFormation shortens the names that it makes, and adds what makes them unique. A name that the
template gives is taken as it is: too long, or taken already, and the deployment fails.
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

#: Where a name must be the only one of its kind.
REGION, ACCOUNT, WORLD = "account and region", "account", "world, whoever has them"


@dataclass(frozen=True, slots=True)
class Kind:
    """What AWS asks of the names of one kind of resource."""

    name_property: str
    longest: int
    unique_in: str | None = REGION


#: Lengths are those of each service's API: the constraint of the name in its Create… action.
KINDS: Mapping[str, Kind] = {
    "AWS::ApiGatewayV2::Api": Kind("Name", 128, None),
    "AWS::CloudWatch::Alarm": Kind("AlarmName", 255),
    "AWS::CloudWatch::CompositeAlarm": Kind("AlarmName", 255),
    "AWS::CloudWatch::Dashboard": Kind("DashboardName", 255, ACCOUNT),
    "AWS::DynamoDB::Table": Kind("TableName", 255),
    "AWS::ECR::Repository": Kind("RepositoryName", 256),
    "AWS::ECS::Cluster": Kind("ClusterName", 255),
    "AWS::ECS::Service": Kind("ServiceName", 255, None),
    "AWS::ECS::TaskDefinition": Kind("Family", 255, None),
    "AWS::ElastiCache::CacheCluster": Kind("ClusterName", 50),
    "AWS::ElastiCache::ReplicationGroup": Kind("ReplicationGroupId", 40),
    "AWS::ElastiCache::ServerlessCache": Kind("ServerlessCacheName", 40),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": Kind("Name", 32),
    "AWS::ElasticLoadBalancingV2::TargetGroup": Kind("Name", 32),
    "AWS::Events::EventBus": Kind("Name", 256),
    "AWS::Events::Rule": Kind("Name", 64),
    "AWS::IAM::Group": Kind("GroupName", 128, ACCOUNT),
    "AWS::IAM::InstanceProfile": Kind("InstanceProfileName", 128, ACCOUNT),
    "AWS::IAM::ManagedPolicy": Kind("ManagedPolicyName", 128, ACCOUNT),
    "AWS::IAM::Role": Kind("RoleName", 64, ACCOUNT),
    "AWS::IAM::User": Kind("UserName", 64, ACCOUNT),
    "AWS::Kinesis::Stream": Kind("Name", 128),
    "AWS::Lambda::Function": Kind("FunctionName", 64),
    "AWS::Lambda::LayerVersion": Kind("LayerName", 140, None),
    "AWS::Logs::LogGroup": Kind("LogGroupName", 512),
    "AWS::RDS::DBCluster": Kind("DBClusterIdentifier", 63),
    "AWS::RDS::DBInstance": Kind("DBInstanceIdentifier", 63),
    "AWS::S3::Bucket": Kind("BucketName", 63, WORLD),
    "AWS::SES::EmailIdentity": Kind("EmailIdentity", 320),
    "AWS::SNS::Topic": Kind("TopicName", 256),
    "AWS::SQS::Queue": Kind("QueueName", 80),
    "AWS::SSM::Parameter": Kind("Name", 1011),
    "AWS::Scheduler::Schedule": Kind("Name", 64),
    "AWS::Scheduler::ScheduleGroup": Kind("Name", 64),
    "AWS::SecretsManager::Secret": Kind("Name", 512),
    "AWS::StepFunctions::StateMachine": Kind("StateMachineName", 80),
}
#: An account has an address or a domain once, whichever parameter named it.
ONCE_HOWEVER_NAMED = frozenset({"AWS::SES::EmailIdentity"})
#: The same for every stack of an account and region.
_SHARED = frozenset({"AWS::AccountId", "AWS::Partition", "AWS::Region", "AWS::URLSuffix"})
_MARK = "\0stack\0"
_VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")


@dataclass(frozen=True, slots=True)
class GivenName:
    """One name that the template gives.

    ``fixed`` counts the characters that are the same whatever the stack is called, ``times`` how
    often its name is in it; both are ``None`` where the name is not known before a deployment.
    ``depends`` is whether a stack can have another, by its own name, a parameter or a resource.
    """

    kind: str
    rules: Kind
    fixed: int | None
    times: int | None
    depends: bool


def given_names(loaded: Template) -> Iterator[tuple[str, GivenName]]:
    """Every resource of a known kind that has its name from the template, by logical id."""
    parameters = {**loaded.parameters, **pseudo_parameters(_MARK)}
    resolve = Resolver(
        parameters,
        conditions=loaded.conditions,
        mappings=loaded.mappings,
        ref=_unknown,
        attribute=_unknown,
    )
    for logical_id, resource in loaded.resources.items():
        kind = KINDS.get(str(resource["Type"]))
        properties = resource.get("Properties") or {}
        if kind is None or kind.name_property not in properties:
            continue
        value = properties[kind.name_property]
        text = _text(resolve, value)
        times = None if text is None else text.count(_MARK)
        fixed = None if text is None or times is None else len(text) - times * len(_MARK)
        # A schedule's name is its group's.
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
    """What an expression takes from elsewhere: parameters, resources, pseudo parameters."""
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
