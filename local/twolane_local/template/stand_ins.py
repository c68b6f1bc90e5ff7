"""Values that stand for what is not played: of the form that AWS's have, the same on every start.

A template hands the id of a network or the address of a cache to functions that may never use it:
each ``Ref`` and ``GetAtt`` has a value. What is made up contains the logical id, and its hosts are
under ``.invalid``, which is nobody's (RFC 2606).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


#: What the stack puts out, and what the function behind the resource returns.
_OPEN = frozenset({"AWS::CloudFormation::CustomResource", "AWS::CloudFormation::Stack"})


@cache
def _read(*parts: str) -> Mapping[str, Any]:
    spec = find_spec("cfnlint")
    if spec is None or spec.origin is None:
        return {}
    try:
        content: dict[str, Any] = json.loads(Path(spec.origin).parent.joinpath(*parts).read_bytes())
    except (OSError, ValueError):
        return {}  # a release that keeps them elsewhere
    return content


@cache
def schema(kind: str) -> Mapping[str, Any]:
    """The type's schema; an empty one for a type that is not known."""
    name = _read("data", "schemas", "providers", "us-east-1.json").get(kind)
    return _read("data", "schemas", "resources", f"{name}.json") if name else {}


def identifier(kind: str) -> str | None:
    """The property that ``Ref`` returns; ``None`` for a type that is not known.

    Where several properties make up the primary identifier, it is the one that AWS chooses, or the
    one that is named after the type (``StageName`` of a ``Stage``).
    """
    known = schema(kind)
    names = [_name(pointer) for pointer in known.get("primaryIdentifier") or ()]
    chosen = [name for name in names if is_read_only(kind, name)]
    own = kind.rpartition("::")[2].lower()
    alike = [name for name in names if name.lower().startswith(own)]
    return next(iter([*chosen, *alike, *reversed(names)]), None)


def is_read_only(kind: str, attribute: str) -> bool:
    """Whether AWS chooses the value, not the template."""
    return attribute in map(_name, schema(kind).get("readOnlyProperties") or ())


def missing(kind: str, properties: Mapping[str, Any]) -> list[str]:
    """What the type requires and these properties have not: CloudFormation refuses it."""
    return [name for name in schema(kind).get("required") or () if properties.get(name) is None]


def knows(kind: str, attribute: str) -> bool:
    """Whether the type has such an attribute; an unknown type has each."""
    known = schema(kind)
    first = attribute.partition(".")[0]
    read_only = {_name(each).partition(".")[0] for each in known.get("readOnlyProperties") or ()}
    return not known or kind in _OPEN or first in read_only or first in known["properties"]


def schema_of(kind: str, attribute: str) -> Mapping[str, Any]:
    """What the schema says of a property's values; nothing where it is not known."""
    found: Mapping[str, Any] = schema(kind)
    for name in attribute.split("."):
        found = (found.get("properties") or {}).get(name) or {}
        definition = str(found.get("$ref", "")).removeprefix("#/definitions/")
        if definition:
            found = schema(kind).get("definitions", {}).get(definition) or {}
    return found


def arn_format(service: str, resource: str) -> str | None:
    """How IAM writes the ARNs of a resource, with its variables (``${Account}``, ``${Name}``).

    IAM's name for a resource may be part of CloudFormation's: ``cluster`` for ``DBCluster``.
    """
    of_service = _read("data", "AdditionalSpecs", "Policies.json").get(service) or {}
    table: Mapping[str, Any] = of_service.get("Resources") or {}
    wanted = resource.lower()

    def fit(name: str) -> tuple[bool, ...]:
        plain = name.replace("-", "").replace(" ", "").lower()
        return (
            plain == wanted,
            wanted.endswith(plain),
            plain.startswith(wanted),
            wanted.startswith(plain),
        )

    for name in sorted(table, key=fit, reverse=True):
        formats = [
            each
            for each in table[name]["ARNFormats"]
            if each.startswith("arn:${Partition}:" + service + ":")
            and each.endswith(".*")
            and not each.endswith("${Account}:.*")  # too general to say more than the rule
        ]
        if any(fit(name)) and formats:
            return str(formats[0].removesuffix(".*")) + "${Name}"
    return None


def _name(pointer: str) -> str:
    return pointer.removeprefix("/properties/").replace("/", ".")


#: In ARNs, where it is not the type's second part in small letters.
_SERVICES = {
    "AmazonMQ": "mq",
    "ApplicationAutoScaling": "application-autoscaling",
    "CertificateManager": "acm",
    "Cognito": "cognito-idp",
    "DocDB": "rds",
    "EFS": "elasticfilesystem",
    "ElasticLoadBalancingV2": "elasticloadbalancing",
    "Elasticsearch": "es",
    "EventSchemas": "schemas",
    "KinesisFirehose": "firehose",
    "MSK": "kafka",
    "Neptune": "rds",
    "OpenSearchServerless": "aoss",
    "OpenSearchService": "es",
    "StepFunctions": "states",
}
_VARIABLE = re.compile(r"\$\{\w+\}")
#: Of what EC2 and EFS call by a number, by the end of the property that holds it.
_PREFIXES = {
    "AccessPointId": "fsap",
    "FileSystemId": "fs",
    "GroupId": "sg",
    "InstanceId": "i",
    "InternetGatewayId": "igw",
    "LaunchTemplateId": "lt",
    "NatGatewayId": "nat",
    "NetworkAcl": "acl",
    "RouteTableId": "rtb",
    "SecurityGroup": "sg",
    "SubnetId": "subnet",
    "VpcId": "vpc",
    "VpcEndpointId": "vpce",
}
#: By service; a database's is its engine's.
_PORTS = {"elasticache": 6379, "memorydb": 6379, "redshift": 5439, "docdb": 27017, "neptune": 8182}
_ENGINES = {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "oracle": 1521, "sqlserver": 1433}
_URLS = ("url", "uri", "endpoint")
#: Their endpoints are hosts, and an image's address has no scheme.
_WITHOUT_SCHEME = frozenset({"DocDB", "ECR", "Neptune"})
_HOSTS = ("address", "addresses", "domainname", "dnsname", "dns", "domainendpoint", "hostname")
#: ``Ref`` gives an ARN though its schema calls it an id:
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-certificatemanager-certificate.html
_REF_IS_ARN = frozenset(
    {
        "AWS::Batch::JobDefinition",
        "AWS::CertificateManager::Certificate",
        "AWS::CloudFormation::Stack",
    }
)
#: ``Ref`` gives all three parts:
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-wafv2-webacl.html
_REF_IS_TRIPLE = "AWS::WAFv2::"


class StandIn:
    """One resource that is not played."""

    def __init__(
        self, kind: str, logical_id: str, name: str, given: Callable[[str], Any | None]
    ) -> None:
        """``given`` has the template's value of a property, ``None`` where it gives none."""
        self._kind = kind
        self._id = logical_id
        self._name = name
        self._given = given
        parts = kind.split("::")
        self._namespace = parts[1] if len(parts) > 2 else "custom"
        self._service = _SERVICES.get(self._namespace, self._namespace.lower())

    def ref(self) -> Any:
        """What ``Ref`` returns."""
        wanted = identifier(self._kind)
        if wanted is None:
            return self._name
        if self._kind in _REF_IS_ARN:
            return self._arn()
        if self._kind.startswith(_REF_IS_TRIPLE):
            name = self._given("Name") or self._name
            return f"{name}|{self._name}|{self._given('Scope') or 'REGIONAL'}"
        if is_read_only(self._kind, wanted):
            return self.attribute(wanted)
        return self._own_name(wanted)

    def attribute(self, attribute: str) -> Any:
        """What ``GetAtt`` returns: what the template says, or a value of the attribute's form."""
        given = self._given(attribute)
        if given is not None:
            return given
        described = schema_of(self._kind, attribute)
        match described.get("type"):
            case "array" if attribute == "DnsEntries":
                # ``zone:name``, which templates split:
                # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-vpcendpoint.html
                return [f"Z0123456789:{self._host()}"]
            case "array":
                return [self._text(attribute, described.get("items") or {})]
            case "integer" | "number":
                return str(self._number(attribute))
            case "boolean":
                return "false"
        return self._text(attribute, described)

    def _text(self, attribute: str, described: Any) -> str:
        last = attribute.rpartition(".")[2]
        return (
            self._cognito(last)
            or self._as_arn(last.lower(), str(described.get("pattern", "")))
            or self._as_address(last.lower())
            or self._named(attribute)
        )

    def _as_arn(self, attribute: str, pattern: str) -> str | None:
        if attribute.endswith("secretarn"):
            return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{self._name}"
        stack_id = self._kind in _REF_IS_ARN and attribute == "stackid"
        if stack_id or attribute.endswith("arn") or pattern.lstrip("^").startswith("arn"):
            return self._arn()
        return None

    def _as_address(self, attribute: str) -> str | None:
        if attribute == "port":
            return str(self._number(attribute))
        if attribute.endswith(_HOSTS):
            return self._host()
        if attribute.endswith(_URLS):
            return f"{'' if self._namespace in _WITHOUT_SCHEME else 'https://'}{self._host()}"
        if attribute.endswith(("ip", "ipaddress")):
            return "192.0.2.1"  # for documentation, nobody's: RFC 5737
        return None

    def _own_name(self, wanted: str) -> str:
        return str(self._given(wanted) or self._named(wanted))

    def _named(self, attribute: str) -> str:
        if self._namespace in {"EC2", "EFS"}:
            # A security group's id is its "Id".
            last = self._kind.rpartition("::")[2] + attribute if attribute == "Id" else attribute
            for end, prefix in _PREFIXES.items():
                if last.lower().endswith((end.lower(), f"{end}id".lower())):
                    return f"{prefix}-{self._id}"
        return self._name

    def _cognito(self, attribute: str) -> str | None:
        """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-cognito-userpool.html"""
        if self._kind == "AWS::Cognito::IdentityPool" and attribute in {"Id", "IdentityPoolId"}:
            return f"{REGION}:{self._id}"
        if self._kind != "AWS::Cognito::UserPool":
            return None
        pool = f"{REGION}_{self._id}"
        provider = f"cognito-idp.{REGION}.amazonaws.com/{pool}"
        return {
            "UserPoolId": pool,
            "ProviderName": provider,
            "ProviderURL": f"https://{provider}",
            "Arn": f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/{pool}",
        }.get(attribute)

    def _arn(self) -> str:
        resource = self._kind.rpartition("::")[2]
        form = arn_format(self._service, resource) or (
            f"arn:aws:{self._service}:{REGION}:{ACCOUNT}:{resource.lower()}/${{Name}}"
        )
        for variable, value in (("Partition", "aws"), ("Region", REGION), ("Account", ACCOUNT)):
            form = form.replace(f"${{{variable}}}", value)
        wanted = identifier(self._kind)
        name = self._name if wanted is None or wanted.endswith("Arn") else self._own_name(wanted)
        return _VARIABLE.sub(lambda _: name, form)

    def _host(self) -> str:
        return f"{self._id}.{self._namespace}.invalid".lower()

    def _number(self, attribute: str) -> int:
        if not attribute.lower().endswith("port"):
            return 0
        engine = str(self._given("Engine") or "")
        ports = [port for name, port in _ENGINES.items() if name in engine]
        return ports[0] if ports else _PORTS.get(self._namespace.lower(), 443)


def by_name(name: str) -> str:
    """For a value of which only the name is known: another stack's export, a parameter."""
    small = name.lower()
    if small.endswith("arn"):
        return f"arn:aws:unknown:{REGION}:{ACCOUNT}:{name}"
    if small.endswith(_URLS):
        host = "".join(letter if letter.isalnum() else "-" for letter in small).strip("-")
        return f"https://{host}.invalid"
    return name


_DYNAMIC = re.compile(r"\{\{resolve:((?:ssm|ssm-secure|secretsmanager):[^{}]+)\}\}")


@dataclass(slots=True)
class Outside:
    """``imports`` are values by the name of their export; ``look_up`` has that of a dynamic
    reference (``ssm:/a/name``), or ``None``.
    """

    imports: Mapping[str, str] = field(default_factory=dict)
    look_up: Callable[[str], str | None] = lambda _: None
    _unknown_imports: dict[str, str] = field(default_factory=dict)
    _unknown_references: dict[str, str] = field(default_factory=dict)

    def imported(self, name: str) -> str:
        """The value of ``Fn::ImportValue``."""
        if name in self.imports:
            return self.imports[name]
        return self._unknown_imports.setdefault(name, by_name(name))

    def dynamic(self, value: Any) -> Any:
        """The value with the dynamic references in its texts resolved."""
        if isinstance(value, str):
            return _DYNAMIC.sub(lambda match: self._reference(match[1]), value)
        if isinstance(value, dict):
            return {key: self.dynamic(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.dynamic(item) for item in value]
        return value

    def parameter(self, value: Any) -> Any:
        """A parameter's value: one in the parameter store may be a list in one text."""
        if isinstance(value, list) and any(_DYNAMIC.search(str(item)) for item in value):
            return str(self.dynamic(",".join(value))).split(",")
        return self.dynamic(value) if isinstance(value, str) else value

    def _reference(self, reference: str) -> str:
        found = self.look_up(reference)
        if found is not None:
            return found
        return self._unknown_references.setdefault(reference, by_name(reference))

    def notes(self) -> Iterator[str]:
        """A line for all exports that nobody gives, and one for all references."""
        if self._unknown_imports:
            first = next(iter(self._unknown_imports))
            yield (
                f"{_listed(self._unknown_imports)}: ImportValue takes this from another stack, "
                f"which is not here, and a placeholder stands for it; --import {first}=VALUE gives "
                "it a value"
            )
        if self._unknown_references:
            yield (
                f"{_listed(self._unknown_references)}: no parameter or secret of that name is "
                "here, and a placeholder stands for it; declare it in the template, or create it "
                "at the AWS endpoint and save the template"
            )


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(sorted(values))
