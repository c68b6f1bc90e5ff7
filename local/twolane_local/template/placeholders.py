"""Makes placeholders for the values of resources that are not emulated.

A template may pass the id of a network or the address of a cache to functions that never use it,
so each ``Ref`` and ``GetAtt`` has a value: of the form that AWS's has, the same on every start. It
contains the logical id. Hosts are under ``.invalid``, which nobody can own (RFC 2606).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: AWS's table of resource types, made of its schemas by infra/tools/resource_types.py. A line is a
#: type and its row, of which only those that a template needs are read.
FILE = Path(__file__).with_name("resource_types.txt")
#: A service's name in ARNs, where it is not the type's second part in lower case.
SERVICES = {
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
#: Types with attributes that no schema lists: outputs, or what the function returns.
_ANY_ATTRIBUTE = frozenset({"AWS::CloudFormation::CustomResource", "AWS::CloudFormation::Stack"})


class TypeRow(TypedDict):
    """A resource type. Nested names have dots.

    ``forms``: names by the form of their values: ``text``, ``arn``, ``number``, ``boolean``, and
    lists of these. ``arn``: IAM's format of the type's ARNs, with variables.
    """

    primary: list[str]
    read_only: list[str]
    required: list[str]
    arn: str | None
    forms: dict[str, list[str]]


@cache
def _table() -> str:
    return "\n" + FILE.read_text()


@cache
def row(kind: str) -> TypeRow | None:
    """Return the type's row, ``None`` for an unknown type."""
    start = _table().find(f"\n{kind} ")
    if start < 0:
        return None
    start += len(kind) + 2
    found: TypeRow = json.loads(_table()[start : _table().index("\n", start)])
    return found


def ref_property(kind: str) -> str | None:
    """Return the property that ``Ref`` returns, ``None`` for an unknown type. Of several in a
    primary identifier, AWS's generated one, or the type's name (``StageName`` of a ``Stage``).
    """
    known = row(kind)
    names = known["primary"] if known else []
    generated = [name for name in names if is_read_only(kind, name)]
    own = kind.rpartition("::")[2].lower()
    alike = [name for name in names if name.lower().startswith(own)]
    return next(iter([*generated, *alike, *reversed(names)]), None)


def is_read_only(kind: str, attribute: str) -> bool:
    """Return whether AWS generates the value."""
    known = row(kind)
    return known is not None and attribute in known["read_only"]


def missing_properties(kind: str, properties: Mapping[str, Any]) -> list[str]:
    """Return the properties that the type requires, without which CloudFormation refuses it."""
    known = row(kind)
    return [name for name in known["required"] if properties.get(name) is None] if known else []


def has_attribute(kind: str, attribute: str) -> bool:
    """Return whether the type has such an attribute; ``True`` for an unknown type."""
    known = row(kind)
    if known is None or kind in _ANY_ATTRIBUTE:
        return True
    first = attribute.partition(".")[0]
    return any(
        name.partition(".")[0] == first for names in known["forms"].values() for name in names
    )


def value_form(kind: str, attribute: str) -> str:
    """Return the form of an attribute's value, ``text`` for an unknown one."""
    known = row(kind)
    forms = known["forms"] if known else {}
    return next((form for form, names in forms.items() if attribute in names), "text")


def arn_format(kind: str) -> str | None:
    """Return IAM's ARN format, with variables (``${Account}``, ``${Name}``)."""
    known = row(kind)
    return known["arn"] if known else None


_VARIABLE = re.compile(r"\$\{\w+\}")
#: The prefixes of EC2's and EFS's ids, by the end of the property's name.
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
#: Ports by service; a database's port depends on its engine.
_PORTS = {"elasticache": 6379, "memorydb": 6379, "redshift": 5439, "docdb": 27017, "neptune": 8182}
_ENGINES = {"postgres": 5432, "mysql": 3306, "mariadb": 3306, "oracle": 1521, "sqlserver": 1433}
_URLS = ("url", "uri", "endpoint")
#: The endpoints of DocDB and Neptune are hosts, and an image's address has no scheme.
_WITHOUT_SCHEME = frozenset({"DocDB", "ECR", "Neptune"})
_HOSTS = ("address", "addresses", "domainname", "dnsname", "dns", "domainendpoint", "hostname")
#: ``Ref`` returns an ARN, which the schema calls an id:
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-certificatemanager-certificate.html
_REF_IS_ARN = frozenset(
    {
        "AWS::Batch::JobDefinition",
        "AWS::CertificateManager::Certificate",
        "AWS::CloudFormation::Stack",
    }
)
#: ``Ref`` returns three parts:
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-wafv2-webacl.html
_REF_IS_TRIPLE = "AWS::WAFv2::"


class Placeholder:
    """The values of one resource that is not emulated."""

    def __init__(
        self, kind: str, logical_id: str, name: str, given: Callable[[str], Any | None]
    ) -> None:
        """``given`` returns the template's value of a property, or ``None``."""
        self._kind = kind
        self._id = logical_id
        self._name = name
        self._given = given
        parts = kind.split("::")
        self._namespace = parts[1] if len(parts) > 2 else "custom"
        self._service = SERVICES.get(self._namespace, self._namespace.lower())

    def ref(self) -> Any:
        wanted = ref_property(self._kind)
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
        """Return the value of ``GetAtt``: the template's, or a value of the attribute's form."""
        given = self._given(attribute)
        if given is not None:
            return given
        form = value_form(self._kind, attribute)
        if form.startswith("list of "):
            if attribute == "DnsEntries":
                # ``zone:name``, which templates split:
                # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-ec2-vpcendpoint.html
                return [f"Z0123456789:{self._host()}"]
            return [self._text(attribute, form.removeprefix("list of "))]
        match form:
            case "number":
                return str(self._number(attribute))
            case "boolean":
                return "false"
        return self._text(attribute, form)

    def _text(self, attribute: str, form: str) -> str:
        last = attribute.rpartition(".")[2]
        return (
            self._cognito(last)
            or self._as_arn(last.lower(), form)
            or self._as_address(last.lower())
            or self._id_or_name(attribute)
        )

    def _as_arn(self, attribute: str, form: str) -> str | None:
        if attribute.endswith("secretarn"):
            return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{self._name}"
        stack_id = self._kind in _REF_IS_ARN and attribute == "stackid"
        if stack_id or attribute.endswith("arn") or form == "arn":
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
            return "192.0.2.1"  # reserved for documentation: RFC 5737
        return None

    def _own_name(self, wanted: str) -> str:
        return str(self._given(wanted) or self._id_or_name(wanted))

    def _id_or_name(self, attribute: str) -> str:
        if self._namespace in {"EC2", "EFS"}:
            # A security group's id is called "Id" only.
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
        arn = arn_format(self._kind) or (
            f"arn:aws:{self._service}:{REGION}:{ACCOUNT}:{resource.lower()}/${{Name}}"
        )
        for variable, value in (("Partition", "aws"), ("Region", REGION), ("Account", ACCOUNT)):
            arn = arn.replace(f"${{{variable}}}", value)
        wanted = ref_property(self._kind)
        name = self._name if wanted is None or wanted.endswith("Arn") else self._own_name(wanted)
        return _VARIABLE.sub(lambda _: name, arn)

    def _host(self) -> str:
        return f"{self._id}.{self._namespace}.invalid".lower()

    def _number(self, attribute: str) -> int:
        if not attribute.lower().endswith("port"):
            return 0
        engine = str(self._given("Engine") or "")
        ports = [port for name, port in _ENGINES.items() if name in engine]
        return ports[0] if ports else _PORTS.get(self._namespace.lower(), 443)


def placeholder_for_name(name: str) -> str:
    """Return a placeholder for a value of which only the name is known, such as an export."""
    small = name.lower()
    if small.endswith("arn"):
        return f"arn:aws:unknown:{REGION}:{ACCOUNT}:{name}"
    if small.endswith(_URLS):
        host = "".join(letter if letter.isalnum() else "-" for letter in small).strip("-")
        return f"https://{host}.invalid"
    return name


_DYNAMIC = re.compile(r"\{\{resolve:((?:ssm|ssm-secure|secretsmanager):[^{}]+)\}\}")


@dataclass(slots=True)
class ExternalValues:
    """Values from outside; a placeholder stands for an unknown one. ``imports`` are other stacks'
    exports; ``look_up`` returns a dynamic reference's value (``ssm:/a/name``), or ``None``.
    """

    imports: Mapping[str, str] = field(default_factory=dict)
    look_up: Callable[[str], str | None] = lambda _: None
    _unknown_imports: dict[str, str] = field(default_factory=dict)
    _unknown_references: dict[str, str] = field(default_factory=dict)

    def imported(self, name: str) -> str:
        """Return the value of ``Fn::ImportValue``."""
        if name in self.imports:
            return self.imports[name]
        return self._unknown_imports.setdefault(name, placeholder_for_name(name))

    def dynamic(self, value: Any) -> Any:
        if isinstance(value, str):
            return _DYNAMIC.sub(lambda match: self._reference(match[1]), value)
        if isinstance(value, dict):
            return {key: self.dynamic(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.dynamic(item) for item in value]
        return value

    def parameter(self, value: Any) -> Any:
        """Return a parameter's value; the parameter store may hold a list as one text."""
        if isinstance(value, list) and any(_DYNAMIC.search(str(item)) for item in value):
            return str(self.dynamic(",".join(value))).split(",")
        return self.dynamic(value) if isinstance(value, str) else value

    def _reference(self, reference: str) -> str:
        found = self.look_up(reference)
        if found is not None:
            return found
        return self._unknown_references.setdefault(reference, placeholder_for_name(reference))

    def notes(self) -> Iterator[str]:
        """Yield a line about all unknown exports, and one about all unknown references."""
        if self._unknown_imports:
            first = next(iter(self._unknown_imports))
            yield (
                f"{', '.join(sorted(self._unknown_imports))}: ImportValue takes this from another "
                f"stack, which is not here, and a placeholder stands for it; --import "
                f"{first}=VALUE gives it a value"
            )
        if self._unknown_references:
            yield (
                f"{', '.join(sorted(self._unknown_references))}: no parameter or secret of that "
                "name is here, and a placeholder stands for it; declare it in the template, or "
                "create it at the AWS endpoint and save the template"
            )
