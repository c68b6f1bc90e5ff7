"""The methods of REST APIs: from an OpenAPI document, from resources, or from both.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions.html
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twolane_local.model import MockAnswer, RestApi, RestMethod, RouteSpec
from twolane_local.stack import mock_integration, rest_resources
from twolane_local.stack.openapi import (
    function_name,
    is_true,
    operations,
    qualifier_of,
    with_variables,
)
from twolane_local.stack.rest_resources import OfApi
from twolane_local.stack.usage_plans import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.stack.routes import Reading

_EXTENSION = "x-amazon-apigateway-"
_SERVICE = re.compile(r"arn:[\w-]+:apigateway:[^:]*:([\w.-]+):")
_EMULATED = frozenset({"request", "token"})


def routes(logical_id: str, properties: Mapping[str, Any], reading: Reading) -> Iterator[RouteSpec]:
    """The routes of one API, once for each of its stages."""
    own = OfApi(logical_id, reading.resources, reading.names)
    body = properties.get("Body") or {}
    elsewhere = "Fn::Transform" in body or (not body and properties.get("BodyS3Location"))
    document = rest_resources.merged(_with_base(properties, body), rest_resources.body_of(own))
    reader = _Reader(logical_id, document, reading)
    for stage, variables in _stages(own):
        yield from reader.routes(stage, variables, _api(own, properties, document, stage))
        if elsewhere:
            why = "the API's definition is in S3"  # which the start says
            yield RouteSpec("", kind="rest", api_id=logical_id.lower(), stage=stage, unplayed=why)
    reader.say()


def _with_base(properties: Mapping[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-import-api-basePath.html"""
    base = str(body.get("basePath") or "").rstrip("/")
    if (properties.get("Parameters") or {}).get("basepath") != "prepend" or not base:
        return body
    paths = {f"{base}{path}": item for path, item in (body.get("paths") or {}).items()}
    return {**body, "paths": paths}


def _stages(own: OfApi) -> list[tuple[str, Mapping[str, str]]]:
    found = {
        str(item.get("StageName")): item.get("Variables") or {} for _, item in own.own("Stage")
    }
    for _, item in own.own("Deployment"):
        name = str(item.get("StageName") or "")
        # SAM's deployments make a stage of this name too, which nobody calls.
        if name and name not in found and not (found and name == "Stage"):
            found[name] = (item.get("StageDescription") or {}).get("Variables") or {}
    return list(found.items()) or [("Prod", {})]


def _api(
    own: OfApi,
    properties: Mapping[str, Any],
    document: Mapping[str, Any],
    stage: str,
) -> RestApi:
    binary = properties.get("BinaryMediaTypes") or document.get(f"{_EXTENSION}binary-media-types")
    source = properties.get("ApiKeySourceType") or document.get(f"{_EXTENSION}api-key-source")
    return RestApi(
        binary=tuple(str(item).replace("~1", "/") for item in binary or ()),
        responses=document.get(f"{_EXTENSION}gateway-responses") or {},
        key_source=str(source or "HEADER").upper(),
        keys=keys_of(own, stage),
        base_paths=tuple(
            str(item["BasePath"]).strip("/")
            for _, item in own.own("BasePathMapping")
            if item.get("BasePath") and item.get("Stage", stage) == stage
        ),
    )


class _Reader:
    """Reads one document; ``unplayed`` has the methods by the sentence that they answer with."""

    def __init__(self, logical_id: str, document: Mapping[str, Any], reading: Reading) -> None:
        self._id = logical_id
        self._document = document
        self._reading = reading
        self._functions = reading.names.functions
        self.unplayed: dict[str, list[str]] = defaultdict(list)
        self._open: set[str] = set()

    def routes(self, stage: str, variables: Mapping[str, str], api: RestApi) -> Iterator[RouteSpec]:
        for path, method, operation in operations(self._document):
            integration = operation.get(f"{_EXTENSION}integration") or {}
            played = self._integration(integration, variables)
            authorizer, api_key = self._security(operation)
            unplayed = self._unplayed_guard(authorizer or {})
            unplayed = unplayed or (played if isinstance(played, str) else "")
            if unplayed:
                self.unplayed[unplayed].append(f"{method} {path}")
            validator = self._validator(operation)
            yield RouteSpec(
                function="" if isinstance(played, str | MockAnswer) else played[0],
                qualifier="" if isinstance(played, str | MockAnswer) else played[1],
                method=method,
                path=path,
                kind="rest",
                payload="1.0",
                api_id=self._id.lower(),
                stage=stage,
                authorizer=authorizer,
                options={"integration": integration},
                unplayed=unplayed,
                stage_variables={name: str(value) for name, value in variables.items()},
                rest=RestMethod(
                    api=api,
                    operation=operation.get("operationId"),
                    api_key=api_key,
                    required=self._required(operation) if validator[1] else (),
                    models=self._models(operation) if validator[0] else {},
                    mock=played if isinstance(played, MockAnswer) else None,
                ),
            )

    def say(self) -> None:
        """One line for each reason, not for each method."""
        for why, methods in self.unplayed.items():
            each = list(dict.fromkeys(methods))
            shown = ", ".join(each[:3]) + (f" and {len(each) - 3} more" if len(each) > 3 else "")
            verb = "answers" if len(each) == 1 else "answer"
            self._reading.complain(self._id, f"{shown} {verb} 501: {why}")

    def _integration(
        self, integration: Mapping[str, Any], variables: Mapping[str, str]
    ) -> tuple[str, str] | MockAnswer | str:
        """The function with its alias, a fixed answer, or why it is not played."""
        kind = str(integration.get("type", "")).lower()
        if kind == "mock":
            return mock_integration.answer(integration)
        uri = with_variables(str(integration.get("uri", "")), variables)
        function = function_name(uri) if "function:" in uri else None
        if kind.startswith("http"):
            return f"it calls another server ({kind.upper()})"
        if kind != "aws_proxy":
            service = _SERVICE.search(uri)
            name = service.group(1) if service else "AWS"
            return f"it calls {name} through mapping templates (VTL)"
        if function is None:
            return "it has no Lambda integration"
        if function not in self._functions:
            return f"{function} is no function of this template"
        return function, qualifier_of(uri)

    def _security(self, operation: Mapping[str, Any]) -> tuple[dict[str, Any] | None, bool]:
        """The Lambda authorizer of an operation, and whether it asks for an API key."""
        components = self._document.get("components") or {}
        schemes = {
            **(components.get("securitySchemes") or {}),
            **(self._document.get("securityDefinitions") or {}),
        }
        authorizer, api_key = None, False
        wanted = operation.get("security", self._document.get("security")) or ()
        for name, scopes in [item for each in wanted for item in each.items()]:
            scheme = schemes.get(name) or {}
            extension = scheme.get(f"{_EXTENSION}authorizer") or {}
            if str(extension.get("type", "")).lower() in _EMULATED:
                named = {"name": name, "scopes": scopes, "scheme": scheme}
                authorizer = authorizer or {**extension, **named}
            elif scheme.get(f"{_EXTENSION}authtype") == "awsSigv4":
                authorizer = authorizer or {"name": name, "type": "iam"}
            elif extension or scheme.get(f"{_EXTENSION}authtype"):
                self._complain_of_guard(str(scheme.get("title", name)))
            elif str(scheme.get("name", "")).lower() == "x-api-key":
                api_key = True
        return authorizer, api_key

    def _unplayed_guard(self, authorizer: Mapping[str, Any]) -> str:
        """Why the authorizer cannot be asked, if it cannot."""
        if authorizer.get("type", "iam") == "iam":
            return ""
        function = function_name(authorizer.get("authorizerUri", ""))
        if function not in self._functions:
            return (
                f"its authorizer {function or authorizer['name']} is no function of this template"
            )
        try:
            re.compile(str(authorizer.get("identityValidationExpression") or ""))
        except re.error as error:
            return f"its authorizer's validation expression cannot be read: {error}"
        return ""

    def _complain_of_guard(self, name: str) -> None:
        if name not in self._open:
            self._open.add(name)
            self._reading.complain(self._id, f"{name} guards a route and lets everyone pass here")

    def _validator(self, operation: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether bodies are looked at, and whether parameters are."""
        key = f"{_EXTENSION}request-validator"
        name = operation.get(key) or self._document.get(key)
        found = (self._document.get(f"{key}s") or {}).get(name) or {}
        return (
            is_true(found.get("validateRequestBody")),
            is_true(found.get("validateRequestParameters")),
        )

    def _required(self, operation: Mapping[str, Any]) -> tuple[str, ...]:
        found = []
        for item in map(self._resolved, operation.get("parameters") or ()):
            place = str(item.get("in")).replace("query", "querystring")
            if place in {"header", "querystring"} and is_true(item.get("required")):
                found.append(f"{place}.{item['name']}")
        return tuple(found)

    def _models(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for item in map(self._resolved, operation.get("parameters") or ()):
            if item.get("in") == "body" and "schema" in item:
                kinds = operation.get("consumes") or self._document.get("consumes")
                found |= dict.fromkeys(kinds or ["application/json"], item["schema"])
        content = self._resolved(operation.get("requestBody") or {}).get("content") or {}
        found |= {kind: item["schema"] for kind, item in content.items() if "schema" in item}
        shared = {
            "definitions": _local_references(self._document.get("definitions") or {}),
            "components": {
                "schemas": (self._document.get("components") or {}).get("schemas") or {}
            },
        }
        return {kind: {**_local_references(schema), **shared} for kind, schema in found.items()}

    def _resolved(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        """The item, or what it refers to in this document."""
        reference = str(item.get("$ref", ""))
        if not reference.startswith("#/"):
            return item
        found: Any = self._document
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def _local_references(schema: Any) -> Any:
    """With the models that it names by their address as those of this document.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/models-mappings-models.html
    """
    if isinstance(schema, list):
        return [_local_references(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: f"#/definitions/{value.rpartition('/')[2]}"
        if key == "$ref" and isinstance(value, str) and "/restapis/" in value
        else _local_references(value)
        for key, value in schema.items()
    }
