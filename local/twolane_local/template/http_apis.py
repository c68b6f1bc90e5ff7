"""Reads an HTTP API as an OpenAPI document, however the template describes it.

CDK and the Serverless Framework write a resource for each route, integration and authorizer. SAM
writes a document. ``Target`` is all three in one property. A template may mix them.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-open-api.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ApiGatewayV2.html
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.model.openapi import ANY, lower_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.template.names import Names

    Resources = Mapping[str, Mapping[str, Any]]

INTEGRATION = "x-amazon-apigateway-integration"
#: Our own extension: the resource that an operation comes from, if it is not in the document.
RESOURCE = "x-twolane-resource"
#: ``AWS_IAM`` as a security scheme; SAM writes it like this.
_SIGNED = {"x-amazon-apigateway-authtype": "awsSigv4"}
#: The integration subtypes that the gateway supports, of
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-aws-services-reference.html
_SUBTYPES = ("EventBridge-PutEvents", "SQS-SendMessage")
_DEFAULT = "$default"


def document(logical_id: str, resources: Resources, names: Names) -> dict[str, Any]:
    """Return the API's OpenAPI document: its ``Body`` and the other resources of the API."""
    own = _ApiResources(logical_id, resources, names)
    properties = names.resolve(resources[logical_id].get("Properties") or {})
    body: dict[str, Any] = copy.deepcopy(dict(properties.get("Body") or {}))
    schemes = body.setdefault("components", {}).setdefault("securitySchemes", {})
    for name, authorizer in own.of("Authorizer"):
        given = {
            "type": str(authorizer.get("AuthorizerType", "")).lower(),
            "jwtConfiguration": lower_keys(authorizer.get("JwtConfiguration") or {}),
            **{
                key[0].lower() + key[1:]: authorizer.get(key)
                for key in (
                    "IdentitySource",
                    "AuthorizerUri",
                    "AuthorizerPayloadFormatVersion",
                    "EnableSimpleResponses",
                    "AuthorizerResultTtlInSeconds",
                )
            },
        }
        schemes[name] = {
            "x-amazon-apigateway-authorizer": {
                key: value for key, value in given.items() if value is not None
            }
        }
    integrations = {names.ref(name): _integration(given) for name, given in own.of("Integration")}
    overrides = next((given for _, given in own.of("ApiGatewayManagedOverrides")), {})
    for route in own.routes(properties, overrides):
        target = str(route.get("Target", ""))
        integration = integrations.get(target.removeprefix("integrations/"))
        if integration is None and target and target == properties.get("Target"):
            integration = _quick_create(target, overrides.get("Integration") or {})
        if not route.get("RouteKey"):
            raise TemplateError(f"{route[RESOURCE]} has no RouteKey")
        method, _, path = str(route["RouteKey"]).rpartition(" ")
        operations = body.setdefault("paths", {}).setdefault(path, {})
        operations[ANY if method in {"", "ANY"} else method.lower()] = {
            **({INTEGRATION: integration} if integration else {}),
            "security": own.security(route, schemes),
            RESOURCE: route.get(RESOURCE, logical_id),
        }
    return body


class _ApiResources:
    def __init__(self, logical_id: str, resources: Resources, names: Names) -> None:
        self._api = names.ref(logical_id)
        self._resources = resources
        self._names = names

    def of(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield logical ids and resolved properties of one kind."""
        for name, resource in self._resources.items():
            if resource["Type"] == f"AWS::ApiGatewayV2::{kind}":
                properties = self._names.resolve(resource.get("Properties") or {})
                if properties.get("ApiId") == self._api:
                    yield name, properties

    def routes(
        self, api: Mapping[str, Any], overrides: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the properties of the API's routes; a ``Target`` of the API is one, too."""
        if api.get("Target"):
            key = api.get("RouteKey", _DEFAULT)
            yield {"Target": api["Target"], **(overrides.get("Route") or {}), "RouteKey": key}
        for name, route in self.of("Route"):
            yield {**route, RESOURCE: name}

    def security(
        self, route: Mapping[str, Any], schemes: dict[str, Any]
    ) -> list[dict[str, list[str]]]:
        kind = str(route.get("AuthorizationType", "NONE")).upper()
        if kind == "AWS_IAM":
            schemes["AWS_IAM"] = _SIGNED
            return [{"AWS_IAM": []}]
        if kind == "NONE":
            return []
        scopes = list(route.get("AuthorizationScopes") or ())
        wanted = route.get("AuthorizerId")
        return [{name: scopes} for name, _ in self.of("Authorizer")
                if self._names.ref(name) == wanted]  # fmt: skip


def stages(logical_id: str, resources: Resources, names: Names) -> dict[str, dict[str, str]]:
    """Return the variables of each of the API's stages."""
    own = _ApiResources(logical_id, resources, names)
    found = {
        str(stage.get("StageName", _DEFAULT)): _texts(stage.get("StageVariables"))
        for _, stage in own.of("Stage")
    }
    overridden = [given.get("Stage") or {} for _, given in own.of("ApiGatewayManagedOverrides")]
    # Without a stage, an API cannot be called on AWS; `Target` makes the default stage.
    return found or {_DEFAULT: _texts((overridden or [{}])[0].get("StageVariables"))}


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (values or {}).items()}


def integration_of(body: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any]:
    """Return an operation's integration, also one that it refers to."""
    found: dict[str, Any] = operation.get(INTEGRATION) or {}
    if "$ref" in found:
        shared = (body.get("components") or {}).get("x-amazon-apigateway-integrations") or {}
        found = shared.get(str(found["$ref"]).rpartition("/")[2]) or {}
    return found


def why_unsupported(integration: Mapping[str, Any], function: str | None) -> str:
    """Return why an integration is not supported; an empty text if it is."""
    subtype = str(integration.get("integrationSubtype") or integration.get("subtype") or "")
    if subtype:
        return "" if subtype in _SUBTYPES else f"{subtype} is not; {' and '.join(_SUBTYPES)} are"
    if not integration:
        return "it has no integration"
    if function is not None:
        return ""
    uri = integration.get("uri")
    if str(integration.get("connectionType", "")).upper() == "VPC_LINK":
        return f"it goes through a VPC link to {uri}"
    if str(integration.get("type", "")).lower() == "http_proxy":
        return f"it passes requests on to {uri} (HTTP_PROXY)"
    return f"its integration {uri} is not a function"


def _integration(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an ``Integration`` resource as the extension of an OpenAPI document."""
    return {
        "type": str(given.get("IntegrationType", "")).lower(),
        "uri": given.get("IntegrationUri"),
        # https://docs.aws.amazon.com/apigatewayv2/latest/api-reference/apis-apiid-integrations.html
        "payloadFormatVersion": str(given.get("PayloadFormatVersion", "1.0")),
        "timeoutInMillis": given.get("TimeoutInMillis"),
        "integrationSubtype": given.get("IntegrationSubtype"),
        "connectionType": given.get("ConnectionType"),
        "requestParameters": given.get("RequestParameters"),
        "responseParameters": given.get("ResponseParameters"),
    }


def _quick_create(target: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop.html#http-api-examples.cli.quick-create"""
    kind = "HTTP_PROXY" if target.startswith("http") else "AWS_PROXY"
    given = {"IntegrationType": kind, "IntegrationUri": target, "PayloadFormatVersion": "2.0"}
    return _integration({**given, **overrides})
