"""Reads the HTTP routes of an expanded template: HTTP APIs, REST APIs and function URLs.

SAM writes an API's routes as an OpenAPI document with API Gateway's extensions:
https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-swagger-extensions.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twolane_local.model import RouteSpec
from twolane_local.model.openapi import (
    function_name,
    lower_keys,
    operations,
    qualifier_of,
    with_variables,
)
from twolane_local.template import http_apis, rest_apis
from twolane_local.template.shape import whole_number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names
    from twolane_local.template.yaml import Notes
#: The kinds of authorizers that ``twolane_local.aws.http_api.authorizers`` supports.
_EMULATED_AUTHORIZERS = frozenset({"iam", "jwt", "request", "token"})


def is_websocket_api(resource: Mapping[str, Any]) -> bool:
    protocol = (resource.get("Properties") or {}).get("ProtocolType")
    return resource["Type"] == "AWS::ApiGatewayV2::Api" and protocol == "WEBSOCKET"


def read_routes(
    template: Template, names: Names, notes: Notes, qualifiers: Mapping[str, Collection[str]]
) -> tuple[RouteSpec, ...]:
    """Return all routes, also unserved ones, without those of unknown ``qualifiers``."""
    found: list[RouteSpec] = []
    context = ApiContext(template, names, notes)
    for logical_id, resource in template.resources.items():
        reader = _READERS.get(resource["Type"])
        if reader and not is_websocket_api(resource):
            properties = names.resolve(resource.get("Properties") or {})
            found += reader(logical_id, properties, context)
    apis = {each.lower(): each for each in template.resources}
    for index, spec in enumerate(found):
        if spec.function and spec.function not in names.functions:
            unsupported = f"its function {spec.function} is not in this template"
            why = f"{spec.method} {spec.path} answers 501: {unsupported}"
            notes.not_emulated(apis[spec.api_id], why)
            found[index] = replace(spec, function="", qualifier="", unsupported=unsupported)
        elif spec.qualifier not in ("", *qualifiers.get(spec.function, ())):
            found[index] = replace(spec, qualifier="")
    return tuple(found)


_SERVED = frozenset({"AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi", "AWS::Lambda::Url"})


def served_apis(template: Template) -> Iterator[str]:
    """Yield the ids of the APIs and function URLs that have an address."""
    for name, resource in template.resources.items():
        if resource["Type"] in _SERVED and not is_websocket_api(resource):
            yield name.lower()


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The arguments that the readers of all kinds of APIs share."""

    template: Template
    names: Names
    notes: Notes

    def not_emulated_authorizer(self, api: str, name: str) -> None:
        self.notes.not_emulated(api, f"{name} guards a route and lets everyone pass here")


def _http_api(
    logical_id: str, properties: Mapping[str, Any], context: ApiContext
) -> Iterator[RouteSpec]:
    resources = context.template.resources
    body = http_apis.document(logical_id, resources, context.names)
    cors = body.get("x-amazon-apigateway-cors")
    cors = cors or lower_keys(properties.get("CorsConfiguration") or {}) or None
    stages = http_apis.stages(logical_id, resources, context.names)
    if "BodyS3Location" in properties or "Fn::Transform" in body:
        unsupported = "its document is in S3"
        yield RouteSpec(function="", api_id=logical_id.lower(), unsupported=unsupported)
    for path, method, operation in operations(body):
        integration = http_apis.integration_of(body, operation)
        if integration.get("timeoutInMillis") is not None:
            whole_number(integration, "timeoutInMillis", 30_000, 50, 30_000)
        default = operation.get("isDefaultRoute") or path.removeprefix("/") == "$default"
        authorizer = _authorizer(body, operation)
        if authorizer and str(authorizer.get("type", "")).lower() not in _EMULATED_AUTHORIZERS:
            context.not_emulated_authorizer(logical_id, authorizer["name"])
        noted = ""
        for stage, variables in stages.items():
            uri = with_variables(str(integration.get("uri") or "arn:"), variables)
            proxy = str(integration.get("type", "")).lower() == "http_proxy"
            function = None if proxy else function_name(uri)
            unsupported = http_apis.why_unsupported(integration, function)
            if unsupported and unsupported != noted:
                resource = str(operation.get(http_apis.RESOURCE, logical_id))
                why = f"route {method} {path} answers 501: {unsupported}"
                context.notes.not_emulated(resource, why)
            noted = unsupported
            yield RouteSpec(
                function=function or "",
                unsupported=unsupported,
                method=method,
                path="$default" if default else path,
                kind="httpapi",
                payload=str(integration.get("payloadFormatVersion", "2.0")),
                api_id=logical_id.lower(),
                stage=stage,
                authorizer=authorizer,
                options={"cors": cors, "integration": integration},
                stage_variables=variables,
                qualifier=qualifier_of(uri),
            )


def _function_url(
    logical_id: str, properties: Mapping[str, Any], context: ApiContext
) -> Iterator[RouteSpec]:
    function = function_name(properties["TargetFunctionArn"])
    if function is None:
        context.notes.not_emulated(logical_id, "its target is not a function of this template")
        return
    yield RouteSpec(
        function=function,
        qualifier=str(properties.get("Qualifier") or qualifier_of(properties["TargetFunctionArn"])),
        kind="url",
        api_id=logical_id.lower(),
        options={
            "cors": lower_keys(properties["Cors"]) if properties.get("Cors") else None,
            "auth": properties.get("AuthType", "NONE"),
            "invoke_mode": properties.get("InvokeMode", "BUFFERED"),
        },
    )


_READERS = {
    "AWS::ApiGatewayV2::Api": _http_api,
    "AWS::ApiGateway::RestApi": rest_apis.read_routes,
    "AWS::Lambda::Url": _function_url,
}


def _authorizer(body: Mapping[str, Any], operation: Mapping[str, Any]) -> dict[str, Any] | None:
    schemes = (body.get("components") or {}).get("securitySchemes") or body.get(
        "securityDefinitions"
    )
    if (operation.get("x-amazon-apigateway-auth") or {}).get("type") == "AWS_IAM":
        return {"name": "AWS_IAM", "type": "iam"}
    for requirement in operation.get("security") or ():
        for name, scopes in requirement.items():
            scheme = (schemes or {}).get(name)
            if scheme is not None:
                authorizer = scheme.get("x-amazon-apigateway-authorizer") or {}
                if scheme.get("x-amazon-apigateway-authtype") == "awsSigv4":
                    authorizer = {"type": "iam"}
                return {"name": name, "scopes": scopes, "scheme": scheme, **authorizer}
    return None
