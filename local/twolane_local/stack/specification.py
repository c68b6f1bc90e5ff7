"""What CloudFormation's resource types return, as the registry's schemas say it.

cfn-lint ships them, and moto's CloudFormation brings cfn-lint. Its files are read as they are:
importing it costs a second. Without them, every type is an unknown one.
https://docs.aws.amazon.com/cloudformation-cli/latest/userguide/resource-type-schema.html
"""

from __future__ import annotations

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


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


def knows(kind: str, attribute: str) -> bool:
    """Whether the type has such an attribute; an unknown type has each."""
    known = schema(kind)
    first = attribute.partition(".")[0]
    read_only = {_name(each).partition(".")[0] for each in known.get("readOnlyProperties") or ()}
    return not known or kind in _OPEN or first in read_only or first in known["properties"]


def described(kind: str, attribute: str) -> Mapping[str, Any]:
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
