"""A SAM template, expanded to CloudFormation by AWS's own translator.

``CodeUri``, ``ContentUri`` and ``DefinitionUri`` may name local paths, which the translator
refuses: they travel through it as made-up S3 addresses and come back as paths.

Before the translator: ``places`` finds the template, ``yaml`` reads it with its lines, ``shape``
checks its form, ``include`` and ``language_extensions`` do their transforms, ``parameters`` has the
values of its parameters, ``nested`` flattens nested stacks, ``cache`` keeps what was expanded.

After it: ``stack`` builds the model, from ``functions``, ``routes`` (``http_apis``, ``rest_apis``),
``sources``, ``file_systems`` and ``names``; ``values`` resolves intrinsic functions, ``stand_ins``
makes values of what is not played, ``limits`` refuses what AWS refuses, ``moto_part`` is what moto
creates.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.model import REGION
from twolane_local.template import cache, include, language_extensions, nested, shape
from twolane_local.template import parameters as template_parameters
from twolane_local.template import values as circles
from twolane_local.template import yaml as template_yaml
from twolane_local.template.nested import LOCAL_BUCKET, flatten
from twolane_local.template.values import Resolver, pseudo_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["LOCAL_BUCKET", "Template", "expand", "load", "parameters_of"]

_PATH_PROPERTIES = {
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
SAM_TRANSFORM = "AWS::Serverless-2016-10-31"


#: A nested template as it is written, expanded, and its parameters' values.
_Expanded = tuple[template_yaml.Source, dict[str, Any], dict[str, Any]]


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
    #: What it takes in from beside it, and nested stacks' templates.
    files: tuple[Path, ...] = ()


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
    source = _read(path)
    fresh = dict(volatile or {})
    stand_ins = {name: f"twolane-stands-for-{name}" for name in fresh}
    values = template_parameters.values(source, {**stand_ins, **parameters})
    root = path.parent
    nested_files: list[Path] = []

    def expand_child(child: Path, given: Mapping[str, str]) -> _Expanded:
        nested_files.append(child)
        return _expand_child(child, given)

    whole = flatten(
        _cached(source, values, stack_name), source, root, expand_child, (path.resolve(),)
    )
    expanded = _with_values(whole, stand_ins, fresh)
    values |= {name: value for name, value in fresh.items() if name not in parameters}
    everything = {**values, **pseudo_parameters(stack_name)}
    conditions = expanded.get("Conditions") or {}
    mappings = expanded.get("Mappings") or {}
    circle = circles.find({name: circles.conditions(item) for name, item in conditions.items()})
    if circle:
        raise TemplateError(
            f"{source.at('Conditions', circle[0])}: the conditions {' → '.join(circle)} are "
            "circular: each needs the other"
        )
    condition = Resolver(
        everything,
        conditions=conditions,
        mappings=mappings,
        ref=_not_yet,
        attribute=_not_yet,
    ).condition

    def holds(section: str, name: str, item: Mapping[str, Any]) -> bool:
        try:
            return "Condition" not in item or condition(item["Condition"])
        except TemplateError as error:
            where = source.at(section, name, "Condition")
            raise TemplateError(f"{where}: {name}.Condition: {error}") from error

    resources = {
        name: resource
        for name, resource in expanded["Resources"].items()
        if holds("Resources", name, resource)
    }
    outputs = {
        name: output["Value"]
        for name, output in (expanded.get("Outputs") or {}).items()
        if holds("Outputs", name, output)
    }
    beside = include.files(source.content, root, include.resolver(source.content, everything))
    files = (*nested_files, *beside)
    return Template(source, stack_name, resources, outputs, everything, conditions, mappings, files)


def _read(path: Path) -> template_yaml.Source:
    source = template_yaml.read(path)
    shape.check(source)
    return replace(source, content=nested.located(source))


def _expand_child(path: Path, parameters: Mapping[str, str]) -> _Expanded:
    source = _read(path)
    values = template_parameters.values(source, parameters)
    return source, _cached(source, values, "local"), values


def parameters_of(path: Path) -> Mapping[str, Any]:
    """The Parameters that the template declares."""
    declared: Mapping[str, Any] = _read(path).content.get("Parameters") or {}
    return declared


def expand(path: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
    """The template as plain CloudFormation, its local paths as S3 addresses."""
    source = _read(path)
    return _cached(source, template_parameters.values(source, parameters), "local")


def _cached(
    source: template_yaml.Source, values: Mapping[str, Any], stack_name: str
) -> dict[str, Any]:
    folder = source.path.parent
    everything = {**values, **pseudo_parameters(stack_name)}
    try:
        whole = include.whole(source.content, folder, include.resolver(source.content, everything))
        if whole != source.content:
            shape.check(replace(source, content=whole))
        content = language_extensions.applied(whole, everything)
    except TemplateError as error:
        raise TemplateError(f"{source.path}: {error}") from error
    expanded = cache.through(
        [content, values], lambda: _expand(source, content, values, stack_name)
    )
    expanded = include.with_bodies(expanded, source, LOCAL_BUCKET)
    shape.check_expanded(source, expanded)
    return expanded


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
    source: template_yaml.Source,
    written: dict[str, Any],
    parameters: Mapping[str, Any],
    stack_name: str,
) -> dict[str, Any]:
    content = _with_local_paths(copy.deepcopy(written))
    transforms = content.get("Transform") or []
    if SAM_TRANSFORM not in ([transforms] if isinstance(transforms, str) else transforms):
        return content
    # Imported here: it costs half a second, and a cached expansion needs none of it.
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    # It counts what it does for a service of AWS, and complains that nobody collects the counts;
    # and that a configuration of that service is not there.
    for name in ("samtranslator.metrics", "samtranslator.feature_toggle"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The translator asks boto3 for a region, although it is given one.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    text = {
        name: ",".join(value) if isinstance(value, list) else value
        for name, value in parameters.items()
    }
    pseudo = pseudo_parameters(stack_name)
    text |= {name: pseudo[name] for name in ("AWS::Region", "AWS::Partition", "AWS::AccountId")}

    def transformed(resources: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy({**content, "Resources": resources})
        made: dict[str, Any] = transform(document, text, _ManagedPolicies())
        return made

    try:
        return transformed(content["Resources"])
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes) or error.message
        causes = " ".join(causes.split())
        raise TemplateError(
            f"{_named(source, causes)}: SAM refuses the template: {causes}"
        ) from error
    except Exception as error:
        # The translator stumbles over some templates without a word of its own: find out over what.
        for name, resource in content["Resources"].items():
            try:
                transformed({name: resource})
            except InvalidDocumentException:
                continue
            except Exception as own:
                where = source.where(name)
                raise TemplateError(f"{where}: {name}: SAM cannot read it: {own!r}") from own
        raise TemplateError(f"{source.path}: SAM cannot read it: {error!r}") from error


def _named(source: template_yaml.Source, causes: str) -> str:
    """Where what the translator names is written."""
    resource = re.search(r"(?:[Rr]esource|Event) with id \[(\w+)\]", causes)
    field = re.search(r"[Pp]roperty '(\w+)", causes)
    if not resource:
        return str(source.path)
    return source.where(resource[1], "Properties", *(field.groups() if field else ()))


class _ManagedPolicies:
    """Stands in for the IAM look-up of managed policies: roles are not enforced locally."""

    def load(self) -> dict[str, str]:
        return {}


#: Stands for an image that is built on this machine.
_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/twolane-local-image:latest"
#: Stands for an application that is not on this machine.
_REPOSITORY = "https://serverlessrepo.invalid/template"
#: Where a function's code may be said.
_CODE = ("CodeUri", "InlineCode", "ImageUri", "PackageType")


def _with_local_paths(content: dict[str, Any]) -> dict[str, Any]:
    shared = (content.get("Globals") or {}).get("Function")
    shared = shared if isinstance(shared, dict) else {}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict):
            continue
        if resource.get("Type") == "AWS::Serverless::Application":
            _hide_application(resource)
        name = _PATH_PROPERTIES.get(resource.get("Type", ""))
        properties = resource.get("Properties")
        if name and isinstance(properties, dict):
            if resource["Type"] == "AWS::Serverless::Function":
                _say_code(properties, {**shared, **properties})
            _hide_path(properties, name)
            if resource["Type"] == "AWS::Serverless::LayerVersion":
                _keep_build_method(properties, resource.get("Metadata"))
    _hide_path(shared, "CodeUri")
    return content


def _say_code(properties: dict[str, Any], whole: Mapping[str, Any]) -> None:
    """What the SAM CLI takes where nothing is said: the template's folder, or the image that
    ``sam build`` makes of ``Metadata``.
    """
    if not any(each in whole for each in _CODE):
        properties["CodeUri"] = "."
    elif whole.get("PackageType") == "Image" and "ImageUri" not in whole:
        properties["ImageUri"] = _IMAGE


def _keep_build_method(properties: dict[str, Any], metadata: Any) -> None:
    """As the version of the made-up S3 object: the translator drops a layer's metadata."""
    method = metadata.get("BuildMethod") if isinstance(metadata, dict) else None
    uri = properties.get("ContentUri")
    if isinstance(method, str) and isinstance(uri, dict) and uri.get("Bucket") == LOCAL_BUCKET:
        uri["Version"] = method


def code_of(value: Any) -> Mapping[str, Any]:
    """Where code is; a path stands for itself, as `aws cloudformation package` takes it."""
    return {"S3Bucket": LOCAL_BUCKET, "S3Key": value} if isinstance(value, str) else value


def _hide_application(resource: dict[str, Any]) -> None:
    """The translator would ask AWS for an application of the Serverless Application Repository.

    https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-application.html
    """
    location = (resource.get("Properties") or {}).get("Location")
    if isinstance(location, dict) and "ApplicationId" in location:
        resource["Properties"] = {**resource["Properties"], "Location": _REPOSITORY}


def _hide_path(properties: dict[str, Any], name: str) -> None:
    value = properties.get(name)
    if isinstance(value, str) and not value.startswith("s3://"):
        properties[name] = {"Bucket": LOCAL_BUCKET, "Key": value or "."}
