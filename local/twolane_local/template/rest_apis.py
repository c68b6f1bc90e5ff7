"""The methods of REST APIs: from an OpenAPI document, from resources, or from both.

https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions.html
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twolane_local.model import ApiKey, MockAnswer, RestApi, RestMethod, RouteSpec, UsagePlan
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
    from twolane_local.template.routes import Reading


class OfApi:
    """What the template has for one API beside the API itself, with its values resolved."""

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
        """The ids, as ``Ref`` gives them, and properties of all resources of a type."""
        for name, (its, properties) in self._all.items():
            if its == f"AWS::ApiGateway::{kind}":
                yield str(self._names.ref(name)), properties

    def own(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Those that belong to this API."""
        for name, properties in self.every(kind):
            if properties.get("RestApiId") == self.id:
                yield name, properties


def body_of(own: OfApi) -> dict[str, Any]:
    """The document that the API's resources amount to; without any, one that is empty."""
    paths = _paths(own)
    authorizers = {name: _scheme(name, item) for name, item in own.own("Authorizer")}
    models = {
        key: item.get("Schema") or {}
        for name, item in own.own("Model")
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
            for name, item in own.own("RequestValidator")
        },
        f"{_EXTENSION}gateway-responses": {
            str(item.get("ResponseType")): lower_keys(item)
            for _, item in own.own("GatewayResponse")
        },
    }
    for _, item in own.own("Method"):
        path = paths.get(item.get("ResourceId"))
        if path is not None:
            method = str(item.get("HttpMethod", "ANY"))
            key = ANY if method == "ANY" else method.lower()
            document["paths"].setdefault(path, {})[key] = _operation(item)
    return document


def merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Both documents as one: an API's methods may stand in its body and beside it."""
    result = dict(body)
    for key, value in more.items():
        result[key] = {**value, **(body.get(key) or {})}
    return result


def _paths(own: OfApi) -> dict[Any, str]:
    """The path of each resource by its id."""
    found = {own.root: "/"}
    left = dict(own.own("Resource"))
    while left:
        placed = {name: item for name, item in left.items() if item.get("ParentId") in found}
        if not placed:
            break  # their parents are not in this template
        for name, item in placed.items():
            found[name] = f"{found[item['ParentId']].rstrip('/')}/{item.get('PathPart', '')}"
            del left[name]
    return found


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


def keys_of(own: OfApi, stage: str) -> tuple[ApiKey, ...]:
    """The keys that open a stage. A key that no plan has for it opens nothing."""
    plans = dict(own.every("UsagePlan"))
    links = [item for _, item in own.every("UsagePlanKey")]
    found = []
    for name, key in own.every("ApiKey"):
        # CloudFormation's default is a key that is not enabled.
        if str(key.get("Enabled", False)).lower() != "true":
            continue
        value = str(key.get("Value") or hashlib.sha256(f"key {name}".encode()).hexdigest()[:40])
        of_plans = [
            plans.get(str(link.get("UsagePlanId"))) for link in links if link["KeyId"] == name
        ]
        plan = next((each for each in of_plans if each and _covers(each, own.id, stage)), None)
        if plan is not None:
            found.append(ApiKey(name, value, _plan(plan, name)))
    return tuple(found)


def _covers(plan: Mapping[str, Any], api: str, stage: str) -> bool:
    return any(
        (item.get("ApiId"), item.get("Stage")) == (api, stage) for item in _plan_stages(plan)
    )


def _plan_stages(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from plan.get("ApiStages") or ()


def _plan(plan: Mapping[str, Any], key: str) -> UsagePlan:
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
#: How CDK and the Serverless Framework let several origins in.
_ALLOW_ORIGIN = "$context.responseOverride.header.Access-Control-Allow-Origin = $origin"
_MATCHES = re.compile(r"""\$origin\.matches\(["'](.*?)["']\)""")
_EQUALS = re.compile(r"""\$origin\s*==\s*["']([^"']+)["']""")


def answer(integration: Mapping[str, Any]) -> MockAnswer | str:
    """The answer, or why it is not played."""
    asked = _text(integration.get("requestTemplates"))
    if _VELOCITY.search(asked):
        return "its MOCK integration decides by a mapping template (VTL)"
    status = _STATUS.search(asked)
    responses: Mapping[str, Any] = integration.get("responses") or {}
    try:
        found = _chosen(responses, status.group(1) if status else "")
        body, origins = _text((found or {}).get("responseTemplates")), ()
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
    return MockAnswer(int(found.get("statusCode", 200)), tuple(headers), body.strip(), origins)


def _text(templates: Mapping[str, Any] | None) -> str:
    """The template for JSON, or the first."""
    found = templates or {}
    return str(found.get("application/json", next(iter(found.values()), "")) or "")


def _chosen(responses: Mapping[str, Any], status: str) -> Mapping[str, Any] | None:
    """A selection pattern is matched with the status, as a whole."""
    for pattern, response in responses.items():
        if pattern != "default" and re.fullmatch(pattern, status):
            return dict(response)
    default = responses.get("default")
    return None if default is None else dict(default)


_EXTENSION = "x-amazon-apigateway-"
_SERVICE = re.compile(r"arn:[\w-]+:apigateway:[^:]*:([\w.-]+):")
_EMULATED = frozenset({"request", "token"})


def routes(logical_id: str, properties: Mapping[str, Any], reading: Reading) -> Iterator[RouteSpec]:
    """The routes of one API, once for each of its stages."""
    own = OfApi(logical_id, reading.resources, reading.names)
    body = properties.get("Body") or {}
    elsewhere = "Fn::Transform" in body or (not body and properties.get("BodyS3Location"))
    document = merged(_with_base(properties, body), body_of(own))
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
            return answer(integration)
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
