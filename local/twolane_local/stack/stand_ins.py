"""Values that stand for what is not played: of the form that AWS's have, the same on every start.

A template hands the id of a network or the address of a cache to functions that may never use it:
each ``Ref`` and ``GetAtt`` has a value. What is made up contains the logical id, and its hosts are
under ``.invalid``, which is nobody's (RFC 2606).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.stack import specification
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable

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
        wanted = specification.identifier(self._kind)
        if wanted is None:
            return self._name
        if self._kind in _REF_IS_ARN:
            return self._arn()
        if self._kind.startswith(_REF_IS_TRIPLE):
            name = self._given("Name") or self._name
            return f"{name}|{self._name}|{self._given('Scope') or 'REGIONAL'}"
        if specification.is_read_only(self._kind, wanted):
            return self.attribute(wanted)
        return self._own_name(wanted)

    def attribute(self, attribute: str) -> Any:
        """What ``GetAtt`` returns: what the template says, or a value of the attribute's form."""
        given = self._given(attribute)
        if given is not None:
            return given
        described = specification.described(self._kind, attribute)
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
        form = specification.arn_format(self._service, resource) or (
            f"arn:aws:{self._service}:{REGION}:{ACCOUNT}:{resource.lower()}/${{Name}}"
        )
        for variable, value in (("Partition", "aws"), ("Region", REGION), ("Account", ACCOUNT)):
            form = form.replace(f"${{{variable}}}", value)
        wanted = specification.identifier(self._kind)
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
