"""CloudFormation's resource types: what ``Ref`` and ``GetAtt`` return, and what a type requires.

The table beside this module is made of AWS's schemas by infra/tools/resource_types.py. A line is a
type and its row, of which only those that a template needs are read.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(__file__).with_suffix(".txt")
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


class Row(TypedDict):
    """A type. Nested names have dots.

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
def row(kind: str) -> Row | None:
    """Return the type's row, ``None`` for an unknown type."""
    start = _table().find(f"\n{kind} ")
    if start < 0:
        return None
    start += len(kind) + 2
    found: Row = json.loads(_table()[start : _table().index("\n", start)])
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


def form(kind: str, attribute: str) -> str:
    """Return the form of an attribute's value, ``text`` for an unknown one."""
    known = row(kind)
    forms = known["forms"] if known else {}
    return next((form for form, names in forms.items() if attribute in names), "text")


def arn_format(kind: str) -> str | None:
    """Return IAM's ARN format, with variables (``${Account}``, ``${Name}``)."""
    known = row(kind)
    return known["arn"] if known else None
