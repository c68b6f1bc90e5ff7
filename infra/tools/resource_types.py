"""Writes the emulator's table of CloudFormation's resource types, from cfn-lint's copy of AWS's.

``python infra/tools/resource_types.py`` (`make resource-types`), with cfn-lint installed. Each line
of the table is a type and what a stack's values depend on: of 35 MB of schemas, 0.8 MB.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/resource-type-schemas.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cfnlint

from twolane_local.template.placeholders import FILE, SERVICES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def lines() -> Iterator[str]:
    """The table's lines, in order."""
    data = Path(cfnlint.__file__).parent / "data"
    policies = json.loads((data / "AdditionalSpecs" / "Policies.json").read_bytes())
    schemas = data / "schemas"
    files = json.loads((schemas / "providers" / "us-east-1.json").read_bytes())
    for kind, file in sorted(files.items()):
        schema = json.loads((schemas / "resources" / f"{file}.json").read_bytes())
        found = _row(kind, schema, policies)
        yield f"{kind} {json.dumps(found, separators=(',', ':'))}"


def _row(kind: str, schema: Mapping[str, Any], policies: Mapping[str, Any]) -> dict[str, Any]:
    read_only = [_name(each) for each in schema.get("readOnlyProperties") or ()]
    forms: dict[str, list[str]] = {}
    for name in dict.fromkeys([*schema.get("properties", ()), *read_only]):
        form = _form(_described(schema, name))
        forms.setdefault(form, []).append(name)
    _, namespace, *rest = kind.split("::")
    service = SERVICES.get(namespace, namespace.lower())
    return {
        "primary": [_name(each) for each in schema.get("primaryIdentifier") or ()],
        "read_only": read_only,
        "required": schema.get("required") or [],
        "arn": _arn_format(policies, service, rest[-1]),
        "forms": forms,
    }


def _name(pointer: str) -> str:
    return pointer.removeprefix("/properties/").replace("/", ".")


def _described(schema: Mapping[str, Any], attribute: str) -> Mapping[str, Any]:
    described: Mapping[str, Any] = schema
    for name in attribute.split("."):
        described = (described.get("properties") or {}).get(name) or {}
        definition = str(described.get("$ref", "")).removeprefix("#/definitions/")
        if definition:
            described = schema.get("definitions", {}).get(definition) or {}
    return described


def _form(described: Mapping[str, Any]) -> str:
    match described.get("type"):
        case "array":
            return f"list of {_form(described.get('items') or {})}"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "boolean"
    return "arn" if str(described.get("pattern", "")).lstrip("^").startswith("arn") else "text"


def _arn_format(policies: Mapping[str, Any], service: str, resource: str) -> str | None:
    """IAM's ARN format, with variables (``${Account}``, ``${Name}``). IAM's name for a resource may
    be part of CloudFormation's: ``cluster`` for ``DBCluster``.
    """
    table: Mapping[str, Any] = (policies.get(service) or {}).get("Resources") or {}
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
            and not each.endswith("${Account}:.*")  # no more exact than the default
        ]
        if any(fit(name)) and formats:
            return str(formats[0].removesuffix(".*")) + "${Name}"
    return None


if __name__ == "__main__":
    FILE.write_text("".join(f"{line}\n" for line in lines()))
