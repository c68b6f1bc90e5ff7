"""A SAM template, expanded to CloudFormation by AWS's own translator.

``CodeUri``, ``ContentUri`` and ``DefinitionUri`` may name local paths, which the translator
refuses: they travel through it as made-up S3 addresses and come back as paths.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import cache as template_cache
from twolane_local.template import language_extensions
from twolane_local.template import parameters as template_parameters
from twolane_local.template import yaml as template_yaml
from twolane_local.template.nested import flatten
from twolane_local.template.values import REGION, Resolver, pseudo_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The bucket that stands for "a path on this machine"; the key is the path.
LOCAL_BUCKET = "twolane-local-path"
_PATH_PROPERTIES = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
SAM_TRANSFORM = "AWS::Serverless-2016-10-31"


@dataclass(frozen=True, slots=True)
class Template:
    """An expanded template: CloudFormation resources whose conditions hold, nothing else."""

    source: template_yaml.Source
    stack_name: str
    resources: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Any]
    parameters: Mapping[str, Any]
    conditions: Mapping[str, Any]
    mappings: Mapping[str, Any]


def load(
    path: Path,
    parameters: Mapping[str, str],
    *,
    stack_name: str,
    volatile: Mapping[str, str] | None = None,
) -> Template:
    """Read and expand the template; ``parameters`` override the defaults of its Parameters.

    ``volatile`` are further ones with another value on each start: a free port. They are put in
    after the expansion, which so can be kept. Raises ``TemplateError`` for anything that SAM or
    CloudFormation would refuse.
    """
    source = template_yaml.read(path)
    fresh = dict(volatile or {})
    stand_ins = {name: f"twolane-stands-for-{name}" for name in fresh}
    values = template_parameters.values(source, {**stand_ins, **parameters})
    root = path.parent
    whole = flatten(_cached(source, values, stack_name), root, root, _expand_child)
    expanded = _with_values(whole, stand_ins, fresh)
    values |= {name: value for name, value in fresh.items() if name not in parameters}
    everything = {**values, **pseudo_parameters(stack_name)}
    conditions = expanded.get("Conditions") or {}
    mappings = expanded.get("Mappings") or {}
    holds = Resolver(
        everything,
        conditions=conditions,
        mappings=mappings,
        ref=_not_yet,
        attribute=_not_yet,
    ).condition
    resources = {
        name: resource
        for name, resource in expanded["Resources"].items()
        if "Condition" not in resource or holds(resource["Condition"])
    }
    outputs = {
        name: output["Value"]
        for name, output in (expanded.get("Outputs") or {}).items()
        if "Condition" not in output or holds(output["Condition"])
    }
    return Template(source, stack_name, resources, outputs, everything, conditions, mappings)


def _expand_child(
    path: Path, parameters: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    source = template_yaml.read(path)
    values = template_parameters.values(source, parameters)
    return _cached(source, values, "local"), values


def parameters_of(path: Path) -> Mapping[str, Any]:
    """The Parameters that the template declares."""
    declared: Mapping[str, Any] = template_yaml.read(path).content.get("Parameters") or {}
    return declared


def expand(path: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The template as plain CloudFormation, its local paths as S3 addresses."""
    source = template_yaml.read(path)
    return _cached(source, template_parameters.values(source, parameters), "local")


def _cached(
    source: template_yaml.Source, values: Mapping[str, Any], stack_name: str
) -> dict[str, Any]:
    try:
        content = language_extensions.applied(
            source.content, {**values, **pseudo_parameters(stack_name)}
        )
    except TemplateError as error:
        raise TemplateError(f"{source.path}: {error}") from error
    return template_cache.through(
        [content, values], lambda: _expand(source.path, content, values, stack_name)
    )


def _with_values(
    expanded: dict[str, Any], stand_ins: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, Any]:
    text = json.dumps(expanded) if values else ""
    for name, value in values.items():
        text = text.replace(stand_ins[name], json.dumps(value)[1:-1])
    result: dict[str, Any] = json.loads(text) if values else expanded
    return result


def _not_yet(*names: str) -> str:
    """What a resource will be called is open; that it is something is all a condition may ask.

    A nested stack's conditions may compare what its parent gives it, resources' names among that.
    """
    return "-".join(names)


def _expand(
    path: Path, written: dict[str, Any], parameters: Mapping[str, Any], stack_name: str
) -> dict[str, Any]:
    content = _with_local_paths(copy.deepcopy(written))
    transforms = content.get("Transform") or []
    if SAM_TRANSFORM not in ([transforms] if isinstance(transforms, str) else transforms):
        return content
    # Imported here: it costs half a second, and a cached expansion needs none of it.
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    # The translator asks boto3 for a region, although it is given one.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    text = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    pseudo = pseudo_parameters(stack_name)
    text |= {name: pseudo[name] for name in ("AWS::Region", "AWS::Partition", "AWS::AccountId")}
    try:
        expanded: dict[str, Any] = transform(content, text, _ManagedPolicies())
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes) or error.message
        raise TemplateError(f"{path}: SAM refuses the template: {causes}") from error
    return expanded


class _ManagedPolicies:
    """Stands in for the IAM look-up of managed policies: roles are not enforced locally."""

    def load(self) -> dict[str, str]:
        return {}


#: Where a function's code may be said.
_CODE = ("CodeUri", "InlineCode", "ImageUri", "PackageType")


def _with_local_paths(content: dict[str, Any]) -> dict[str, Any]:
    shared = (content.get("Globals") or {}).get("Function")
    shared = shared if isinstance(shared, dict) else {}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict):
            continue
        name = _PATH_PROPERTIES.get(resource.get("Type", ""))
        properties = resource.get("Properties")
        if name and isinstance(properties, dict):
            if resource["Type"] == "AWS::Serverless::Function" and not any(
                each in {**shared, **properties} for each in _CODE
            ):
                properties["CodeUri"] = "."  # as the SAM CLI takes it
            _hide_path(properties, name)
    _hide_path(shared, "CodeUri")
    return content


def _hide_path(properties: dict[str, Any], name: str) -> None:
    value = properties.get(name)
    if isinstance(value, str) and not value.startswith("s3://"):
        properties[name] = {"Bucket": LOCAL_BUCKET, "Key": value or "."}
