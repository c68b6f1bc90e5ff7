"""Loads a SAM template, expanded to CloudFormation by AWS's own translator.

``CodeUri``, ``ContentUri`` and ``DefinitionUri`` may name local paths, which the translator
refuses. They pass through it as made-up S3 addresses and become paths again afterwards.

Before the translator: ``places`` finds the template, ``yaml`` reads it with its lines, ``shape``
checks its form and refuses what AWS refuses, ``transforms`` applies ``AWS::Include`` and
``AWS::LanguageExtensions``, ``parameters`` reads parameters' values, ``nested`` flattens nested
stacks. Expansions are cached: the translator's import alone costs half a second.

After the translator: ``stack`` builds the model from ``functions``, ``routes`` (``http_apis``,
``rest_apis``), ``sources`` and ``names``. ``values`` resolves intrinsic functions, ``placeholders``
makes values for resources that are not emulated, ``moto_part`` is the template that moto creates.
``yaml.Notes`` collects remarks for the user.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.installation import directory
from twolane_local.errors import TemplateError
from twolane_local.model import REGION
from twolane_local.template import shape
from twolane_local.template import transforms as include
from twolane_local.template import transforms as language_extensions
from twolane_local.template.nested import LOCAL_BUCKET, flatten, with_local_paths
from twolane_local.template.parameters import as_text, parameter_values
from twolane_local.template.values import (
    Resolver,
    condition_names,
    find_circle,
    pseudo_parameters,
)
from twolane_local.template.yaml import TemplateFile, read_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


def cached(key: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return ``make()``, or its stored result for the same key. Both are JSON values."""
    try:
        text = json.dumps([version("aws-sam-translator"), key], sort_keys=True)
    except TypeError:
        return make()
    file = directory() / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    with suppress(OSError, ValueError):
        cached: dict[str, Any] = json.loads(file.read_bytes())
        return cached
    value = make()
    with suppress(OSError, TypeError):
        text = json.dumps(value)
        file.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary file and moved, so that a reader never sees half a file.
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
            temporary.write(text)
        Path(temporary.name).replace(file)
    return value


__all__ = ["LOCAL_BUCKET", "Template", "declared_parameters", "expand", "load"]

_PATH_PROPERTIES = {
    "AWS::Serverless::Api": "DefinitionUri",
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::HttpApi": "DefinitionUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
SAM_TRANSFORM = "AWS::Serverless-2016-10-31"

#: A nested template as written, its expansion, and the values of its parameters.
_Expanded = tuple[TemplateFile, dict[str, Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Template:
    """An expanded template, without the resources and outputs whose condition is false."""

    source: TemplateFile
    stack_name: str
    resources: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, Any]
    parameters: Mapping[str, Any]
    conditions: Mapping[str, Any]
    mappings: Mapping[str, Any]
    #: The files that it includes, and the templates of nested stacks.
    files: tuple[Path, ...] = ()

    def of_type(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the logical id and the properties of each resource of a type."""
        for logical_id, resource in self.resources.items():
            if resource["Type"] == kind:
                yield logical_id, resource.get("Properties") or {}


def load(
    path: Path,
    parameters: Mapping[str, str],
    *,
    stack_name: str,
    volatile: Mapping[str, str] | None = None,
) -> Template:
    """Read and expand the template; ``parameters`` override the defaults of its Parameters.

    ``volatile`` ones change on each start (a free port) and are filled in after the expansion, so
    that it can be cached. Raises ``TemplateError`` for what SAM or CloudFormation would refuse.
    """
    source = _read(path)
    fresh = dict(volatile or {})
    markers = {name: f"twolane-stands-for-{name}" for name in fresh}
    values = parameter_values(source, {**markers, **parameters})
    root = path.parent
    nested_files: list[Path] = []

    def expand_child(child: Path, given: Mapping[str, str]) -> _Expanded:
        nested_files.append(child)
        source = _read(child)
        values = parameter_values(source, given)
        return source, _cached(source, values, "local"), values

    whole = flatten(
        _cached(source, values, stack_name), source, root, expand_child, (path.resolve(),)
    )
    text = json.dumps(whole) if fresh else ""
    for name, value in fresh.items():
        text = text.replace(markers[name], json.dumps(value)[1:-1])
    expanded: dict[str, Any] = json.loads(text) if fresh else whole
    values |= {name: value for name, value in fresh.items() if name not in parameters}
    everything = {**values, **pseudo_parameters(stack_name)}
    conditions = expanded.get("Conditions") or {}
    mappings = expanded.get("Mappings") or {}
    circle = find_circle({name: condition_names(item) for name, item in conditions.items()})
    if circle:
        raise TemplateError(
            f"{source.at('Conditions', circle[0])}: the conditions {' → '.join(circle)} are "
            "circular: each needs the other"
        )
    condition = Resolver(
        everything,
        conditions=conditions,
        mappings=mappings,
        ref=_unresolved,
        attribute=_unresolved,
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
    resolve = include.location_resolver(source.content, everything)
    files = (*nested_files, *include.included_files(source.content, root, resolve))
    return Template(source, stack_name, resources, outputs, everything, conditions, mappings, files)


def _read(path: Path) -> TemplateFile:
    source = read_template(path)
    shape.check(source)
    return replace(source, content=with_local_paths(source))


def declared_parameters(path: Path) -> Mapping[str, Any]:
    """Return the template's Parameters section."""
    declared: Mapping[str, Any] = _read(path).content.get("Parameters") or {}
    return declared


def expand(path: Path, parameters: Mapping[str, str]) -> dict[str, Any]:
    """Return the template as plain CloudFormation, with local paths as S3 addresses."""
    source = _read(path)
    return _cached(source, parameter_values(source, parameters), "local")


def _cached(source: TemplateFile, values: Mapping[str, Any], stack_name: str) -> dict[str, Any]:
    folder = source.path.parent
    everything = {**values, **pseudo_parameters(stack_name)}
    try:
        resolve = include.location_resolver(source.content, everything)
        whole = include.with_includes(source.content, folder, resolve)
        if whole != source.content:
            shape.check(replace(source, content=whole))
        content = language_extensions.apply(whole, everything)
    except TemplateError as error:
        raise TemplateError(f"{source.path}: {error}") from error
    expanded = cached([content, values], lambda: _expand(source, content, values, stack_name))
    expanded = include.with_definitions(expanded, source, LOCAL_BUCKET)
    shape.check_expanded(source, expanded)
    return expanded


def _unresolved(*names: str) -> str:
    """Stands for an unknown name, which a nested stack's conditions may compare."""
    return "-".join(names)


def _expand(
    source: TemplateFile,
    written: dict[str, Any],
    parameters: Mapping[str, Any],
    stack_name: str,
) -> dict[str, Any]:
    content = _hide_local_paths(copy.deepcopy(written))
    transforms = content.get("Transform") or []
    if SAM_TRANSFORM not in ([transforms] if isinstance(transforms, str) else transforms):
        return content
    # Imported here: it costs half a second, and a cached expansion does not need it.
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.translator.transform import transform

    # It logs an error because nothing collects its metrics, and one because it finds no feature
    # configuration; both are for AWS's own service.
    for name in ("samtranslator.metrics", "samtranslator.feature_toggle"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # The translator asks boto3 for a region, although it is given one.
    os.environ.setdefault("AWS_DEFAULT_REGION", REGION)
    text = {name: as_text(value) for name, value in parameters.items()}
    pseudo = pseudo_parameters(stack_name)
    text |= {name: pseudo[name] for name in ("AWS::Region", "AWS::Partition", "AWS::AccountId")}

    def transformed(resources: dict[str, Any]) -> dict[str, Any]:
        document = copy.deepcopy({**content, "Resources": resources})
        result: dict[str, Any] = transform(document, text, _ManagedPolicies())
        return result

    try:
        return transformed(content["Resources"])
    except InvalidDocumentException as error:
        causes = "; ".join(cause.message for cause in error.causes) or error.message
        causes = " ".join(causes.split())
        raise TemplateError(
            f"{_where(source, causes)}: SAM refuses the template: {causes}"
        ) from error
    except Exception as error:
        # The translator crashes on some templates: find the resource that makes it crash.
        for name, resource in content["Resources"].items():
            try:
                transformed({name: resource})
            except InvalidDocumentException:
                continue
            except Exception as own:
                where = source.where(name)
                raise TemplateError(f"{where}: {name}: SAM cannot read it: {own!r}") from own
        raise TemplateError(f"{source.path}: SAM cannot read it: {error!r}") from error


def _where(source: TemplateFile, causes: str) -> str:
    """Return file and line of the resource or property that the translator's message names."""
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
#: Stands for an application of the Serverless Application Repository.
_REPOSITORY = "https://serverlessrepo.invalid/template"
#: The properties that may give a function's code.
_CODE = ("CodeUri", "InlineCode", "ImageUri", "PackageType")


def _hide_local_paths(content: dict[str, Any]) -> dict[str, Any]:
    shared = (content.get("Globals") or {}).get("Function")
    shared = shared if isinstance(shared, dict) else {}
    for resource in content["Resources"].values():
        if not isinstance(resource, dict):
            continue
        if resource.get("Type") == "AWS::Serverless::Application":
            # The translator would call AWS for its location:
            # https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-resource-application.html
            location = (resource.get("Properties") or {}).get("Location")
            if isinstance(location, dict) and "ApplicationId" in location:
                resource["Properties"] = {**resource["Properties"], "Location": _REPOSITORY}
        name = _PATH_PROPERTIES.get(resource.get("Type", ""))
        properties = resource.get("Properties")
        if name and isinstance(properties, dict):
            if resource["Type"] == "AWS::Serverless::Function":
                _set_default_code(properties, {**shared, **properties})
            _hide_path(properties, name)
            if resource["Type"] == "AWS::Serverless::LayerVersion":
                _keep_build_method(properties, resource.get("Metadata"))
    _hide_path(shared, "CodeUri")
    return content


def _set_default_code(properties: dict[str, Any], whole: Mapping[str, Any]) -> None:
    """Set the SAM CLI's default: the template's folder, or the image that ``sam build`` makes from
    ``Metadata``.
    """
    if not any(each in whole for each in _CODE):
        properties["CodeUri"] = "."
    elif whole.get("PackageType") == "Image" and "ImageUri" not in whole:
        properties["ImageUri"] = _IMAGE


def _keep_build_method(properties: dict[str, Any], metadata: Any) -> None:
    """Keep it as the version of the made-up S3 object: the translator drops a layer's metadata."""
    method = metadata.get("BuildMethod") if isinstance(metadata, dict) else None
    uri = properties.get("ContentUri")
    if isinstance(method, str) and isinstance(uri, dict) and uri.get("Bucket") == LOCAL_BUCKET:
        uri["Version"] = method


def code_location(value: Any) -> Mapping[str, Any]:
    """Return code as a bucket and key; a plain path is local, as for ``aws … package``."""
    return {"S3Bucket": LOCAL_BUCKET, "S3Key": value} if isinstance(value, str) else value


def _hide_path(properties: dict[str, Any], name: str) -> None:
    value = properties.get(name)
    if isinstance(value, str) and not value.startswith("s3://"):
        properties[name] = {"Bucket": LOCAL_BUCKET, "Key": value or "."}
