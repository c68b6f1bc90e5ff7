"""Reads the methods of REST APIs from an OpenAPI document, from resources, or from both.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions.html
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twolane_local.model import ApiKey, MockResponse, RestApi, RestMethod, RouteSpec, UsagePlan
from twolane_local.model.openapi import (
    ANY,
    function_name,
    is_true,
    lower_keys,
    operations,
    qualifier_of,
    with_variables,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.template.names import Names
    from twolane_local.template.routes import ApiContext


_EXTENSION = "x-amazon-apigateway-"
_SERVICE = re.compile(r"arn:[\w-]+:apigateway:[^:]*:([\w.-]+):")
_EMULATED_AUTHORIZERS = frozenset({"request", "token"})


class ApiResources:
    """The resolved resources of API Gateway in a template, as one API sees them."""

    def __init__(self, api: str, resources: Mapping[str, Mapping[str, Any]], names: Names) -> None:
        self.id = names.ref(api)
        self.root = names.attribute(api, "RootResourceId")
        self._names = names
        self._all = {
            name: (resource["Type"], names.resolve(resource.get("Properties") or {}))
            for name, resource in resources.items()
            if resource["Type"].startswith("AWS::ApiGateway::") and name != api
        }

    def every(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the ``Ref`` and the properties of all resources of a type."""
        for name, (full_kind, properties) in self._all.items():
            if full_kind == f"AWS::ApiGateway::{kind}":
                yield str(self._names.ref(name)), properties

    def own(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield those that belong to this API."""
        for name, properties in self.every(kind):
            if properties.get("RestApiId") == self.id:
                yield name, properties


def document_from_resources(resources: ApiResources) -> dict[str, Any]:
    paths = {resources.root: "/"}
    left = dict(resources.own("Resource"))
    while left:
        placed = {name: item for name, item in left.items() if item.get("ParentId") in paths}
        if not placed:
            break  # the parents are not in this template
        for name, item in placed.items():
            paths[name] = f"{paths[item['ParentId']].rstrip('/')}/{item.get('PathPart', '')}"
            del left[name]
    authorizers = {name: _scheme(name, item) for name, item in resources.own("Authorizer")}
    models = {
        key: item.get("Schema") or {}
        for name, item in resources.own("Model")
        for key in (name, str(item.get("Name", name)))
    }
    document: dict[str, Any] = {
        "paths": {},
        "securityDefinitions": {
            **authorizers,
            "api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"},
            "sigv4": {"type": "apiKey", f"{_EXTENSION}authtype": "awsSigv4"},
        },
        "definitions": models,
        f"{_EXTENSION}request-validators": {
            name: {
                "validateRequestBody": item.get("ValidateRequestBody"),
                "validateRequestParameters": item.get("ValidateRequestParameters"),
            }
            for name, item in resources.own("RequestValidator")
        },
        f"{_EXTENSION}gateway-responses": {
            str(item.get("ResponseType")): lower_keys(item)
            for _, item in resources.own("GatewayResponse")
        },
    }
    for _, item in resources.own("Method"):
        path = paths.get(item.get("ResourceId"))
        if path is not None:
            method = str(item.get("HttpMethod", "ANY"))
            key = ANY if method == "ANY" else method.lower()
            document["paths"].setdefault(path, {})[key] = _operation(item)
    return document


def _operation(method: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(method.get("AuthorizationType", "NONE")).upper()
    security: list[dict[str, Any]] = []
    if kind in {"CUSTOM", "COGNITO_USER_POOLS"}:
        security.append({str(method.get("AuthorizerId")): method.get("AuthorizationScopes") or []})
    elif kind == "AWS_IAM":
        security.append({"sigv4": []})
    if is_true(method.get("ApiKeyRequired")):
        security.append({"api_key": []})
    return {
        "operationId": method.get("OperationName"),
        "security": security,
        "parameters": [
            {"in": place.replace("querystring", "query"), "name": name, "required": is_true(value)}
            for key, value in (method.get("RequestParameters") or {}).items()
            for place, _, name in [key.removeprefix("method.request.").partition(".")]
        ],
        "requestBody": {
            "content": {
                kind: {"schema": {"$ref": f"#/definitions/{model}"}}
                for kind, model in (method.get("RequestModels") or {}).items()
                if model not in {"Empty", "Error"}  # each API has these
            }
        },
        f"{_EXTENSION}request-validator": method.get("RequestValidatorId"),
        f"{_EXTENSION}integration": _integration(method.get("Integration") or {}),
    }


def _integration(given: Mapping[str, Any]) -> dict[str, Any]:
    responses = {
        str(item.get("SelectionPattern") or "default"): lower_keys(item)
        for item in given.get("IntegrationResponses") or ()
    }
    return {**lower_keys(given), "responses": responses}


def _scheme(name: str, authorizer: Mapping[str, Any]) -> dict[str, Any]:
    source = str(authorizer.get("IdentitySource") or "")
    header = source.removeprefix("method.request.header.") or "Authorization"
    extension = {**lower_keys(authorizer), "type": str(authorizer.get("Type", "")).lower()}
    return {
        "type": "apiKey",
        "name": header,
        "in": "header",
        "title": authorizer.get("Name", name),
        f"{_EXTENSION}authorizer": extension,
    }


def api_keys(resources: ApiResources, stage: str) -> tuple[ApiKey, ...]:
    """Return the keys that a usage plan allows for a stage."""
    plans = dict(resources.every("UsagePlan"))
    links = [item for _, item in resources.every("UsagePlanKey")]
    found = []
    for name, key in resources.every("ApiKey"):
        # CloudFormation's default is a key that is not enabled.
        if str(key.get("Enabled", False)).lower() != "true":
            continue
        value = str(key.get("Value") or hashlib.sha256(f"key {name}".encode()).hexdigest()[:40])
        of_key = [
            plans.get(str(link.get("UsagePlanId"))) for link in links if link["KeyId"] == name
        ]
        plan = next((each for each in of_key if each and _covers(each, resources.id, stage)), None)
        if plan is not None:
            found.append(ApiKey(name, value, _usage_plan(plan, name)))
    return tuple(found)


def _covers(plan: Mapping[str, Any], api: str, stage: str) -> bool:
    stages = plan.get("ApiStages") or ()
    return any((item.get("ApiId"), item.get("Stage")) == (api, stage) for item in stages)


def _usage_plan(plan: Mapping[str, Any], key: str) -> UsagePlan:
    throttle, quota = plan.get("Throttle") or {}, plan.get("Quota") or {}
    rate, limit = throttle.get("RateLimit"), quota.get("Limit")
    return UsagePlan(
        name=str(plan.get("UsagePlanName") or key),
        rate=None if rate is None else float(rate),
        burst=int(throttle.get("BurstLimit") or 0),
        limit=None if limit is None else int(limit),
        period=str(quota.get("Period", "DAY")),
    )


_HEADER = "method.response.header."
_STATUS = re.compile(r"[\"']?statusCode[\"']?\s*:\s*[\"']?(\d{3})")
#: A directive or a reference of the Velocity Template Language.
_VELOCITY = re.compile(r"#(?:set|if|else|elseif|end|foreach|define|##|\*)|\$[!{]?[A-Za-z]")
#: CDK and the Serverless Framework write this to allow several origins.
_ALLOW_ORIGIN = "$context.responseOverride.header.Access-Control-Allow-Origin = $origin"
_MATCHES = re.compile(r"""\$origin\.matches\(["'](.*?)["']\)""")
_EQUALS = re.compile(r"""\$origin\s*==\s*["']([^"']+)["']""")


def mock_response(integration: Mapping[str, Any]) -> MockResponse | str:
    """Return a MOCK integration's response, or why it is not supported."""
    request = _json_template(integration.get("requestTemplates"))
    if _VELOCITY.search(request):
        return "its MOCK integration decides by a mapping template (VTL)"
    status = _STATUS.search(request)
    responses: Mapping[str, Any] = integration.get("responses") or {}
    try:
        found = _response_for(status.group(1) if status else "", responses)
        body, origins = _json_template((found or {}).get("responseTemplates")), ()
        if _ALLOW_ORIGIN in body:
            origins = (*_MATCHES.findall(body), *map(re.escape, _EQUALS.findall(body)))
            body = ""
            re.compile("|".join(origins))
    except re.error as error:
        return f"its MOCK integration has a pattern that cannot be read: {error}"
    if found is None:
        return "its MOCK integration has no response for its status"
    if _VELOCITY.search(body):
        return "its MOCK integration writes its answer by a mapping template (VTL)"
    headers = []
    for name, value in (found.get("responseParameters") or {}).items():
        text = str(value)
        if not (len(text) > 1 and text[0] == text[-1] == "'"):
            return f"its MOCK integration maps {text} to a header"
        headers.append((name.removeprefix(_HEADER).lower(), text[1:-1]))
    return MockResponse(int(found.get("statusCode", 200)), tuple(headers), body.strip(), origins)


def _json_template(templates: Mapping[str, Any] | None) -> str:
    """Return the mapping template for JSON, or the first one."""
    found = templates or {}
    return str(found.get("application/json", next(iter(found.values()), "")) or "")


def _response_for(status: str, responses: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the response whose selection pattern matches the whole status."""
    for pattern, response in responses.items():
        if pattern != "default" and re.fullmatch(pattern, status):
            return dict(response)
    default = responses.get("default")
    return None if default is None else dict(default)


def read_routes(
    logical_id: str, properties: Mapping[str, Any], context: ApiContext
) -> Iterator[RouteSpec]:
    """Yield the routes of one API for each of its stages."""
    resources = ApiResources(logical_id, context.template.resources, context.names)
    body = properties.get("Body") or {}
    in_s3 = "Fn::Transform" in body or (not body and properties.get("BodyS3Location"))
    # An API's methods may be in its body, in resources, or in both.
    document = dict(_with_base_path(properties, body))
    for key, value in document_from_resources(resources).items():
        document[key] = {**value, **(document.get(key) or {})}
    reader = _Reader(logical_id, document, context)
    for stage, variables in _stages(resources):
        yield from reader.routes(stage, variables, _api(resources, properties, document, stage))
        if in_s3:  # noted already, as not on this machine
            why = "the API's definition is in S3"
            yield RouteSpec(
                "", kind="rest", api_id=logical_id.lower(), stage=stage, unsupported=why
            )
    reader.report_unsupported()


def _with_base_path(properties: Mapping[str, Any], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-import-api-basePath.html"""
    base = str(body.get("basePath") or "").rstrip("/")
    if (properties.get("Parameters") or {}).get("basepath") != "prepend" or not base:
        return body
    paths = {f"{base}{path}": item for path, item in (body.get("paths") or {}).items()}
    return {**body, "paths": paths}


def _stages(resources: ApiResources) -> list[tuple[str, Mapping[str, str]]]:
    found = {
        str(item.get("StageName")): item.get("Variables") or {}
        for _, item in resources.own("Stage")
    }
    for _, item in resources.own("Deployment"):
        name = str(item.get("StageName") or "")
        # SAM's deployments make a second stage named "Stage", which is not used.
        if name and name not in found and not (found and name == "Stage"):
            found[name] = (item.get("StageDescription") or {}).get("Variables") or {}
    return list(found.items()) or [("Prod", {})]


def _api(
    resources: ApiResources,
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
        keys=api_keys(resources, stage),
        base_paths=tuple(
            str(item["BasePath"]).strip("/")
            for _, item in resources.own("BasePathMapping")
            if item.get("BasePath") and item.get("Stage", stage) == stage
        ),
    )


class _Reader:
    def __init__(self, logical_id: str, document: Mapping[str, Any], context: ApiContext) -> None:
        self._id = logical_id
        self._document = document
        self._context = context
        self._functions = context.names.functions
        #: Methods by the reason why they are not supported.
        self._unsupported: dict[str, list[str]] = defaultdict(list)
        self._reported_authorizers: set[str] = set()

    def routes(self, stage: str, variables: Mapping[str, str], api: RestApi) -> Iterator[RouteSpec]:
        for path, method, operation in operations(self._document):
            integration = operation.get(f"{_EXTENSION}integration") or {}
            target = self._integration(integration, variables)
            authorizer, api_key = self._security(operation)
            unsupported = self._unsupported_authorizer(authorizer or {})
            unsupported = unsupported or (target if isinstance(target, str) else "")
            if unsupported:
                self._unsupported[unsupported].append(f"{method} {path}")
            key = f"{_EXTENSION}request-validator"
            name = operation.get(key) or self._document.get(key)
            found = (self._document.get(f"{key}s") or {}).get(name) or {}
            check_body = is_true(found.get("validateRequestBody"))
            check_parameters = is_true(found.get("validateRequestParameters"))
            yield RouteSpec(
                function="" if isinstance(target, str | MockResponse) else target[0],
                qualifier="" if isinstance(target, str | MockResponse) else target[1],
                method=method,
                path=path,
                kind="rest",
                payload="1.0",
                api_id=self._id.lower(),
                stage=stage,
                authorizer=authorizer,
                options={"integration": integration},
                unsupported=unsupported,
                stage_variables={name: str(value) for name, value in variables.items()},
                rest=RestMethod(
                    api=api,
                    operation=operation.get("operationId"),
                    api_key=api_key,
                    required=self._required(operation) if check_parameters else (),
                    models=self._models(operation) if check_body else {},
                    mock=target if isinstance(target, MockResponse) else None,
                ),
            )

    def report_unsupported(self) -> None:
        """Note one line for each reason, not for each method."""
        for why, methods in self._unsupported.items():
            each = list(dict.fromkeys(methods))
            shown = ", ".join(each[:3]) + (f" and {len(each) - 3} more" if len(each) > 3 else "")
            verb = "answers" if len(each) == 1 else "answer"
            self._context.notes.not_emulated(self._id, f"{shown} {verb} 501: {why}")

    def _integration(
        self, integration: Mapping[str, Any], variables: Mapping[str, str]
    ) -> tuple[str, str] | MockResponse | str:
        """Return the function and its alias, a fixed response, or why it is not supported."""
        kind = str(integration.get("type", "")).lower()
        if kind == "mock":
            return mock_response(integration)
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
            return f"{function} is not a function of this template"
        return function, qualifier_of(uri)

    def _security(self, operation: Mapping[str, Any]) -> tuple[dict[str, Any] | None, bool]:
        """Return an operation's Lambda authorizer, and whether it requires an API key."""
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
            if str(extension.get("type", "")).lower() in _EMULATED_AUTHORIZERS:
                named = {"name": name, "scopes": scopes, "scheme": scheme}
                authorizer = authorizer or {**extension, **named}
            elif scheme.get(f"{_EXTENSION}authtype") == "awsSigv4":
                authorizer = authorizer or {"name": name, "type": "iam"}
            elif extension or scheme.get(f"{_EXTENSION}authtype"):
                title = str(scheme.get("title", name))
                if title not in self._reported_authorizers:
                    self._reported_authorizers.add(title)
                    self._context.not_emulated_authorizer(self._id, title)
            elif str(scheme.get("name", "")).lower() == "x-api-key":
                api_key = True
        return authorizer, api_key

    def _unsupported_authorizer(self, authorizer: Mapping[str, Any]) -> str:
        """Return why an authorizer cannot be called; an empty text if it can."""
        if authorizer.get("type", "iam") == "iam":
            return ""
        function = function_name(authorizer.get("authorizerUri", ""))
        if function not in self._functions:
            name = function or authorizer["name"]
            return f"its authorizer {name} is not a function of this template"
        try:
            re.compile(str(authorizer.get("identityValidationExpression") or ""))
        except re.error as error:
            return f"its authorizer's validation expression cannot be read: {error}"
        return ""

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
        """Return the item, or the one that it refers to in this document."""
        reference = str(item.get("$ref", ""))
        if not reference.startswith("#/"):
            return item
        found: Any = self._document
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}


def _local_references(schema: Any) -> Any:
    """Replace the addresses of models by references into this document."""
    # https://docs.aws.amazon.com/apigateway/latest/developerguide/models-mappings-models.html
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
