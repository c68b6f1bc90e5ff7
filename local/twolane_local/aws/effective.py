"""The stack that runs: what the template declares, with the changes of the API."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping import identity_of
from twolane_local.aws.lambda_ import mappings
from twolane_local.aws.lambda_.code import ArchiveError, CodeStore
from twolane_local.aws.lambda_.resources import Target, specification, why_unrunnable
from twolane_local.aws.lambda_.settings import statement_of
from twolane_local.aws.rest_json import RefusedError
from twolane_local.model import LATEST, LayerSpec, RouteSpec
from twolane_local.model.openapi import lower_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.aws.changes import Changes, Document
    from twolane_local.model import FunctionSpec, Stack


def declared(stack: Stack) -> dict[str, dict[str, Document]]:
    """The resources of a template's stack as documents, by kind and key."""
    found: dict[str, dict[str, Document]] = {
        "function": {}, "version": {}, "alias": {}, "invoke-config": {}, "url": {}, "layer": {},
        "concurrency": {}, "recursion": {}, "tags": {}, "policy": {},
    }  # fmt: skip
    for spec in stack.functions:
        found["function"][spec.name] = {"Properties": dict(spec.properties)}
        for qualifier in spec.qualifiers:
            kind = "version" if qualifier.isdigit() else "alias"
            found[kind][f"{spec.name}:{qualifier}"] = {"FunctionVersion": "1"}
        configs = {LATEST: spec.event_invoke} if spec.event_invoke else {}
        for qualifier, config in {**configs, **spec.qualified_invoke}.items():
            found["invoke-config"][f"{spec.name}:{qualifier}"] = dict(config)
        if spec.reserved_concurrency is not None:
            reserved = {"ReservedConcurrentExecutions": spec.reserved_concurrency}
            found["concurrency"][spec.name] = reserved
        if tags := spec.properties.get("Tags"):
            found["tags"][spec.name] = {each["Key"]: str(each["Value"]) for each in tags}
        found["recursion"][spec.name] = {"RecursiveLoop": spec.recursive_loop}
    for route in stack.routes:
        if route.kind == "url":
            found["url"][route.target] = {"Id": route.api_id, **_url_properties(route)}
    for key, properties in stack.permissions:
        name, _, qualifier = key.partition(":")
        policy = found["policy"].setdefault(key, {"Statements": []})
        with suppress(RefusedError):  # a principal that does not exist
            policy["Statements"].append(statement_of(Target(name, qualifier), properties))
    declared_mappings, tags_of_mappings = _declared_mappings(stack)
    found[mappings.KIND] = declared_mappings
    found["tags"] |= tags_of_mappings
    for layer in stack.layers:
        found["layer"][layer.arn.partition(":layer:")[2]] = {"Properties": dict(layer.properties)}
    return found


def _declared_mappings(stack: Stack) -> tuple[dict[str, Document], dict[str, Document]]:
    """The mappings by UUID, and their tags by ARN."""
    found = {identity_of(spec): spec for spec in stack.mappings}
    tags = {
        mappings.arn_of(identity): dict(spec.shown["Tags"])
        for identity, spec in found.items()
        if "Tags" in spec.shown
    }
    return {identity: mappings.document_of(spec) for identity, spec in found.items()}, tags


def _url_properties(route: RouteSpec) -> Document:
    properties: Document = {
        "AuthType": route.options.get("auth", "NONE"),
        "InvokeMode": route.options.get("invoke_mode", "BUFFERED"),
    }
    if cors := route.options.get("cors"):
        properties["Cors"] = {key[0].upper() + key[1:]: value for key, value in cors.items()}
    return properties


def archives(changes: Changes) -> set[str]:
    """The digests of the archives that the resources of the API need."""
    documents = [each for kind in ("function", "version") for each in changes.all(kind).values()]
    found = {(each.get("Code") or {}).get("Sha256", "") for each in documents}
    return found | {each.get("Sha256", "") for each in changes.all("layer").values()}


def effective(stack: Stack, changes: Changes, code: CodeStore) -> Stack:
    """``stack`` is the template's; the result is what runs."""
    layers = {layer.arn: layer for layer in stack.layers}
    for layer in _made_layers(changes, code):
        layers[layer.arn] = layer
    named = {spec.name: spec for spec in stack.functions}
    functions = _Functions(changes, code, named, layers)
    return replace(
        stack,
        functions=tuple(functions.all()),
        layers=tuple(layers.values()),
        routes=tuple(_routes(stack, changes)),
        mappings=tuple(
            mappings.specification(identity, document)
            for identity, document in changes.all(mappings.KIND).items()
            if mappings.other_source(document) is None
        ),
    )


def _made_layers(changes: Changes, code: CodeStore) -> Iterator[LayerSpec]:
    for key, document in changes.all("layer").items():
        if not changes.is_declared("layer", key):
            try:
                folder = code.unpacked(document["Sha256"])
            except ArchiveError:
                continue  # GetLayerVersion still answers; its functions fail to import
            yield LayerSpec(document["Arn"], folder=folder)


class _Functions:
    """Makes the functions of documents."""

    def __init__(
        self,
        changes: Changes,
        code: CodeStore,
        named: Mapping[str, FunctionSpec],
        layers: Mapping[str, LayerSpec],
    ) -> None:
        self._changes, self._code, self._named, self._layers = changes, code, named, layers
        self._children: dict[str, dict[str, dict[str, Document]]] = {}
        for kind in ("version", "alias", "invoke-config"):
            for key, document in changes.all(kind).items():
                name, _, qualifier = key.partition(":")
                of_kind = self._children.setdefault(name, {}).setdefault(kind, {})
                of_kind[qualifier] = document

    def all(self) -> Iterator[FunctionSpec]:
        for name, document in self._changes.all("function").items():
            yield self._function(name, document)

    def _function(self, name: str, document: Document) -> FunctionSpec:
        spec = self._latest(name, document)
        mine = self._children.get(name, {})
        configs = dict(mine.get("invoke-config", {}))
        concurrency = self._changes.get("concurrency", name) or {}
        recursion = self._changes.get("recursion", name) or {}
        spec = replace(
            spec,
            event_invoke=configs.pop(LATEST, {}),
            qualified_invoke=configs,
            reserved_concurrency=concurrency.get("ReservedConcurrentExecutions"),
            recursive_loop=recursion.get("RecursiveLoop", "Terminate"),
        )
        versions, aliases = mine.get("version", {}), mine.get("alias", {})
        return replace(
            spec,
            qualifiers=(*versions, *aliases),
            versions=dict(self._versions(spec, document, versions)),
            aliases={alias: weights_of(each) for alias, each in aliases.items()},
        )

    def _latest(self, name: str, document: Document) -> FunctionSpec:
        if self._changes.is_declared("function", name):
            return self._named[name]
        return self._made(name, document)

    def _versions(
        self, latest: FunctionSpec, document: Document, versions: Mapping[str, Document]
    ) -> Iterator[tuple[str, FunctionSpec]]:
        for number, each in versions.items():
            if "Properties" in each:
                made = self._made(latest.name, each)
            elif "Code" in document:  # the template's version keeps the template's code
                made = self._named[latest.name]
            else:
                continue
            yield (
                number,
                replace(
                    made,
                    version=number,
                    qualified_invoke=latest.qualified_invoke,
                    reserved_concurrency=latest.reserved_concurrency,
                    recursive_loop=latest.recursive_loop,
                    snap_start=(made.properties.get("SnapStart") or {}).get("ApplyOn")
                    == "PublishedVersions",
                ),
            )

    def _made(self, name: str, document: Document) -> FunctionSpec:
        properties: Mapping[str, Any] = document["Properties"]
        base = self._named.get(name)
        why, folder, made_of = why_unrunnable(properties), None, None
        code = document.get("Code")
        if code is not None:
            try:
                folder = self._code.unpacked(code["Sha256"])
            except ArchiveError as error:
                why = why or f"its code {error}"
        elif base is not None:
            folder, made_of = base.code_dir, base.made_of
        arns = properties.get("Layers") or ()
        found = [self._layers[arn] for arn in map(str, arns) if arn in self._layers]
        spec = replace(
            specification(name, properties, folder or self._code.nowhere, found),
            unrunnable=why,
            made_of=made_of,
            by_api=code is not None,
        )
        if base is None or base.runtime != spec.runtime:
            return spec
        return replace(
            spec, logical_id=base.logical_id, where=base.where, python=base.python,
            packages=base.packages, file_systems=base.file_systems,
        )  # fmt: skip


def weights_of(alias: Document) -> dict[str, float]:
    """The versions that an alias leads to, with their weights."""
    more = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    weights = {version: float(weight) for version, weight in more.items()}
    return {alias["FunctionVersion"]: 1.0 - sum(weights.values()), **weights}


def _routes(stack: Stack, changes: Changes) -> Iterator[RouteSpec]:
    urls = changes.all("url")
    for route in stack.routes:
        if route.kind != "url" or changes.is_declared("url", route.target):
            yield route
    for key, document in urls.items():
        if not changes.is_declared("url", key):
            name, _, qualifier = key.partition(":")
            cors = document.get("Cors")
            yield RouteSpec(
                function=name,
                qualifier=qualifier,
                kind="url",
                api_id=document["Id"],
                options={
                    "cors": lower_keys(cors) if cors else None,
                    "auth": document["AuthType"],
                    "invoke_mode": document["InvokeMode"],
                    "port": document.get("Port"),
                },
            )
