"""A REST API's resources and methods, as CDK and the Serverless Framework write them, as OpenAPI.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-apigateway-method.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.stack.openapi import ANY, is_true, lower_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.stack.names import Names

_EXTENSION = "x-amazon-apigateway-"


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
