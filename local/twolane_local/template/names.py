"""Returns the values of ``Ref`` and ``GetAtt``: the names of resources on this machine.

Names consist of the stack's name and the logical id, without AWS's random suffix, so that they
are the same on every start.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from twolane_local.aws.event_source_mapping import identity_of
from twolane_local.aws.invocation import target_of
from twolane_local.aws.lambda_.mappings import arn_of
from twolane_local.errors import TemplateError
from twolane_local.model import ACCOUNT, REGION, QueueMappingSpec
from twolane_local.template import placeholders
from twolane_local.template.placeholders import Placeholder
from twolane_local.template.values import Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.template import Template
    from twolane_local.template.placeholders import ExternalValues

#: The property that names a resource, for the types that the emulator names itself.
NAME_PROPERTY = {
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SNS::Topic": "TopicName",
    "AWS::IAM::Role": "RoleName",
    "AWS::Events::Rule": "Name",
    "AWS::Events::EventBus": "Name",
    "AWS::Scheduler::Schedule": "Name",
    "AWS::Scheduler::ScheduleGroup": "Name",
    "AWS::Lambda::LayerVersion": "LayerName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SecretsManager::Secret": "Name",
}
#: The types that moto's CloudFormation creates.
IN_MOTO = frozenset(
    {
        "AWS::SQS::Queue", "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SNS::Topic",
        "AWS::SSM::Parameter",
        "AWS::KMS::Key", "AWS::KMS::Alias", "AWS::Events::EventBus", "AWS::Kinesis::Stream",
        "AWS::StepFunctions::StateMachine",
    }
)  # fmt: skip


class _LazyParameters(dict[str, Any]):
    """Looks a stored parameter up when it is used: CDK's templates have one that is not."""

    def __init__(self, values: Mapping[str, Any], external: ExternalValues) -> None:
        super().__init__(values)
        self._external = external

    def __getitem__(self, name: str) -> Any:
        return self._external.parameter(super().__getitem__(name))


class Names:
    """Returns the values of ``Ref`` and ``GetAtt``, a placeholder for a type that is not emulated.
    ``base_url(api_id)`` is an API's or function URL's local address; ``elsewhere(name, attribute or
    None)`` a value that moto holds, or raises ``KeyError``. Without ``external``, values of other
    stacks raise ``TemplateError``, and dynamic references stay as they are.
    """

    def __init__(
        self,
        template: Template,
        *,
        aws_url: str,
        base_url: Callable[[str], str],
        elsewhere: Callable[[str, str | None], Any],
        external: ExternalValues | None = None,
    ) -> None:
        self._template = template
        self._aws_url = aws_url
        self._base_url = base_url
        self._elsewhere = elsewhere
        self._external = external
        self._under_way: set[tuple[str, str]] = set()
        #: Attributes that the schema of the type does not have, by resource and attribute.
        self.unknown_attributes: dict[tuple[str, str], str] = {}
        parameters = template.parameters
        if external is not None:
            parameters = _LazyParameters(parameters, external)
        self._resolver = Resolver(
            parameters,
            conditions=template.conditions,
            mappings=template.mappings,
            ref=self.ref,
            attribute=self.attribute,
            imported=external.imported if external is not None else None,
        )

    @cached_property
    def functions(self) -> frozenset[str]:
        """The names of the template's functions."""
        found = self._template.of_type("AWS::Lambda::Function")
        return frozenset(self.name(logical_id) for logical_id, _ in found)

    def condition(self, name: str) -> bool:
        return self._resolver.condition(name)

    def resolve(self, value: Any) -> Any:
        """Return the value with its intrinsic functions and dynamic references resolved."""
        resolved = self._resolver(value)
        return resolved if self._external is None else self._external.dynamic(resolved)

    def name(self, logical_id: str) -> str:
        """Return the resource's name: from its property, or a generated one."""
        resource = self._template.resources[logical_id]
        kind = resource["Type"]
        properties = resource.get("Properties") or {}
        given = properties.get(NAME_PROPERTY.get(kind, ""))
        if given is not None:
            return str(self.resolve(given))
        if kind == "AWS::Lambda::Function":
            return logical_id
        made = f"{self._template.stack_name}-{logical_id}"
        if kind == "AWS::S3::Bucket":
            return made.lower()
        fifo = str(self.resolve(properties.get("FifoQueue", properties.get("FifoTopic", False))))
        return f"{made}.fifo" if fifo.lower() == "true" else made

    def ref(self, logical_id: str) -> Any:
        kind = self._kind(logical_id)
        special = self._REFS.get(kind)
        if special is not None:
            return special(self, logical_id)
        if kind in NAME_PROPERTY:
            return self.name(logical_id)
        if kind in IN_MOTO:
            try:
                return self._elsewhere(logical_id, None)
            except KeyError:
                pass  # moto has no value for it
        return self._placeholder(logical_id).ref()

    def _placeholder(self, logical_id: str) -> Placeholder:
        properties = self._properties(logical_id)

        def given(path: str) -> Any | None:
            value: Any = properties
            for name in path.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if value is None:
                return None
            if (logical_id, path) in self._under_way:
                raise TemplateError(f"{logical_id}.{path} refers to itself: a circular dependency")
            self._under_way.add((logical_id, path))
            try:
                return self.resolve(value)
            finally:
                self._under_way.discard((logical_id, path))

        kind = self._kind(logical_id)
        return Placeholder(kind, logical_id, self.name(logical_id), given)

    def _queue_url(self, logical_id: str) -> str:
        return f"{self._aws_url}/{ACCOUNT}/{self.name(logical_id)}"

    def _api_id(self, logical_id: str) -> str:
        return logical_id.lower()

    def _api_url(self, logical_id: str) -> str:
        return self._base_url(self._api_id(logical_id))

    def _stage_name(self, logical_id: str) -> Any:
        return self.resolve(self._properties(logical_id).get("StageName", "$default"))

    def _deployment_id(self, logical_id: str) -> str:
        return hashlib.sha256(logical_id.encode()).hexdigest()[:6]

    def _topic_arn(self, logical_id: str) -> str:
        return self._arn("sns", self.name(logical_id))

    def _secret_arn(self, logical_id: str) -> str:
        # Without AWS's random suffix, which its API does not require either:
        # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
        return self._arn("secretsmanager", f"secret:{self.name(logical_id)}")

    def _version_arn(self, logical_id: str) -> str:
        properties = self._properties(logical_id)
        version = self.resolve(properties.get("Name", "1"))
        return f"{self._function_arn(properties['FunctionName'])}:{version}"

    def _url_function_arn(self, logical_id: str) -> str:
        return self._function_arn(self._properties(logical_id)["TargetFunctionArn"])

    def _mapping_id(self, logical_id: str) -> str:
        properties = self._properties(logical_id)
        function = target_of(str(self.resolve(properties.get("FunctionName"))))
        source = str(self.resolve(properties.get("EventSourceArn")))
        return identity_of(QueueMappingSpec(function.partition(":")[0], source, uuid=logical_id))

    def _mapping_arn(self, logical_id: str) -> str:
        return arn_of(self._mapping_id(logical_id))

    def _layer_arn(self, logical_id: str) -> str:
        return f"{self._arn('lambda', f'layer:{self.name(logical_id)}')}:1"

    _REFS: ClassVar[Mapping[str, Callable[[Names, str], Any]]] = {
        "AWS::SQS::Queue": _queue_url,
        "AWS::SNS::Topic": _topic_arn,
        "AWS::SecretsManager::Secret": _secret_arn,
        "AWS::ApiGatewayV2::Api": _api_id,
        "AWS::ApiGateway::RestApi": _api_id,
        "AWS::ApiGateway::Deployment": _deployment_id,
        "AWS::ApiGatewayV2::Deployment": _deployment_id,
        "AWS::ApiGatewayV2::Stage": _stage_name,
        "AWS::ApiGateway::Stage": _stage_name,
        "AWS::Lambda::EventSourceMapping": _mapping_id,
        "AWS::Lambda::Url": _url_function_arn,
        "AWS::Lambda::Version": _version_arn,
        "AWS::Lambda::Alias": _version_arn,
        "AWS::Lambda::LayerVersion": _layer_arn,
    }

    def attribute(self, logical_id: str, attribute: str) -> Any:
        kind = self._kind(logical_id)
        if kind == "AWS::SQS::Queue":
            name = self.name(logical_id)
            return {
                "Arn": self._arn("sqs", name),
                "QueueName": name,
                "QueueUrl": self._queue_url(logical_id),
            }[attribute]
        own = self._own_attribute(kind, logical_id, attribute)
        if own is not None:
            return own
        if kind in IN_MOTO:
            try:
                return self._elsewhere(logical_id, attribute)
            except KeyError:
                pass  # moto has no value for it
        if not placeholders.has_attribute(kind, attribute):
            self.unknown_attributes[logical_id, attribute] = kind
        return self._placeholder(logical_id).attribute(attribute)

    def _own_attribute(self, kind: str, logical_id: str, attribute: str) -> str | None:
        if attribute in {"Arn", "TopicArn"}:
            name = self.name(logical_id)
            return {
                "AWS::Lambda::Function": self._arn("lambda", f"function:{name}"),
                "AWS::DynamoDB::Table": self._arn("dynamodb", f"table/{name}"),
                "AWS::S3::Bucket": f"arn:aws:s3:::{name}",
                "AWS::SNS::Topic": self._arn("sns", name),
                "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{name}",
                "AWS::Events::Rule": self._arn("events", f"rule/{self._bus(logical_id)}{name}"),
                "AWS::Events::EventBus": self._arn("events", f"event-bus/{name}"),
                "AWS::Scheduler::Schedule": self._arn(
                    "scheduler", f"schedule/{self._group(logical_id)}/{name}"
                ),
                "AWS::Scheduler::ScheduleGroup": self._arn("scheduler", f"schedule-group/{name}"),
                "AWS::Logs::LogGroup": self._arn("logs", f"log-group:{name}:*"),
            }.get(kind)
        special = self._ATTRIBUTES.get((kind, attribute))
        return None if special is None else special(self, logical_id)

    _ATTRIBUTES: ClassVar[Mapping[tuple[str, str], Callable[[Names, str], str]]] = {
        ("AWS::ApiGateway::RestApi", "RestApiId"): _api_id,
        ("AWS::ApiGatewayV2::Api", "ApiId"): _api_id,
        ("AWS::ApiGatewayV2::Api", "ApiEndpoint"): _api_url,
        ("AWS::Lambda::Alias", "AliasArn"): _version_arn,
        ("AWS::Lambda::EventSourceMapping", "Id"): _mapping_id,
        ("AWS::Lambda::EventSourceMapping", "EventSourceMappingArn"): _mapping_arn,
        ("AWS::Lambda::LayerVersion", "LayerVersionArn"): _layer_arn,
        ("AWS::Lambda::Url", "FunctionArn"): _url_function_arn,
        ("AWS::Lambda::Version", "FunctionArn"): _version_arn,
        ("AWS::Lambda::Version", "Version"): lambda *_: "1",
        ("AWS::Lambda::Url", "FunctionUrl"): lambda self, name: f"{self._api_url(name)}/",
        ("AWS::SecretsManager::Secret", "Id"): _secret_arn,
        ("AWS::SNS::Topic", "TopicName"): name,
    }

    def _properties(self, logical_id: str) -> Mapping[str, Any]:
        return self._template.resources[logical_id].get("Properties") or {}

    def _kind(self, logical_id: str) -> str:
        return str(self._template.resources[logical_id]["Type"])

    def _bus(self, logical_id: str) -> str:
        """Return the part before a rule's name in its ARN; the default bus is not named there."""
        given = self._properties(logical_id).get("EventBusName")
        bus = str(self.resolve(given) or "").rpartition("event-bus/")[2]
        return f"{bus}/" if bus not in {"", "default"} else ""

    def _group(self, logical_id: str) -> str:
        given = self._properties(logical_id).get("GroupName")
        return str(self.resolve(given) or "default")

    def _function_arn(self, value: Any) -> str:
        name = str(self.resolve(value))
        return name if name.startswith("arn:") else self._arn("lambda", f"function:{name}")

    @staticmethod
    def _arn(service: str, rest: str) -> str:
        return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"
