"""The HTTP routes of an expanded template: HTTP APIs, REST APIs, function URLs.

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
from twolane_local.template import http_apis, include, rest_apis
from twolane_local.template.limits import number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names


_DOMAIN = "each API is served at its own local address only"

_WHY = {
    "AWS::ApiGateway::DomainName": _DOMAIN,
    "AWS::ApiGateway::DomainNameV2": _DOMAIN,
    "AWS::ApiGatewayV2::DomainName": _DOMAIN,
    "AWS::ApiGateway::VpcLink": "there is no VPC here",
    "AWS::ApiGatewayV2::VpcLink": "there is no VPC here",
    "AWS::Logs::SubscriptionFilter": "nobody gets log lines",
    "AWS::CloudFormation::Stack": "its template is not on this machine",
    "AWS::Lambda::CodeSigningConfig": "code is not checked for signatures",
}


def is_websocket(resource: Mapping[str, Any]) -> bool:
    """Whether a resource is an API of WebSockets."""
    protocol = (resource.get("Properties") or {}).get("ProtocolType")
    return resource["Type"] == "AWS::ApiGatewayV2::Api" and protocol == "WEBSOCKET"


def complain_of_unplayed(
    resources: Mapping[str, Mapping[str, Any]], complain: Callable[[str, str], None]
) -> None:
    """``complain(logical_id, why)`` hears of each."""
    for logical_id, why in include.elsewhere(resources):
        complain(logical_id, why)
    for logical_id, resource in resources.items():
        if is_websocket(resource):
            complain(logical_id, "APIs of WebSockets are not served")
        elif resource["Type"] in _WHY:
            complain(logical_id, _WHY[resource["Type"]])


#: The kinds of authorizers that ``twolane_local.aws.http_api.authorizers`` decides for.
_EMULATED = frozenset({"iam", "jwt", "request", "token"})


def routes(
    resources: Mapping[str, Mapping[str, Any]],
    names: Names,
    complain: Callable[[str, str], None],
    qualifiers: Mapping[str, Collection[str]] | None = None,
) -> tuple[RouteSpec, ...]:
    """All routes; ``complain(logical_id, why)`` hears of each that cannot be served.

    ``qualifiers``: by function, its versions and aliases. Another one is left out of its route.
    """
    found: list[RouteSpec] = []
    reading = Reading(resources, names, complain)
    for logical_id, resource in resources.items():
        reader = _READERS.get(resource["Type"])
        if reader and not is_websocket(resource):
            properties = names.resolve(resource.get("Properties") or {})
            found += reader(logical_id, properties, reading)
    apis = {each.lower(): each for each in resources}
    for index, spec in enumerate(found):
        if spec.function and spec.function not in names.functions:
            unplayed = f"its function {spec.function} is not in this template"
            complain(apis[spec.api_id], f"{spec.method} {spec.path} answers 501: {unplayed}")
            found[index] = replace(spec, function="", qualifier="", unplayed=unplayed)
        elif spec.qualifier not in ("", *(qualifiers or {}).get(spec.function, ())):
            found[index] = replace(spec, qualifier="")
    return tuple(found)


_SERVED = frozenset({"AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi", "AWS::Lambda::Url"})


def served_apis(template: Template) -> Iterator[str]:
    """The ids of the APIs and function URLs that have an address, in the template's order."""
    for name, resource in template.resources.items():
        if resource["Type"] in _SERVED and not is_websocket(resource):
            yield name.lower()


@dataclass(frozen=True, slots=True)
class Reading:
    """What every reader needs beside its own resource."""

    resources: Mapping[str, Mapping[str, Any]]
    names: Names
    complain: Callable[[str, str], None]

    def authorizer(
        self, api: str, body: Mapping[str, Any], operation: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """What guards an operation; a guard of a kind that is not emulated is complained of."""
        found = _authorizer(body, operation)
        if found is not None and str(found.get("type", "")).lower() not in _EMULATED:
            self.complain(api, f"{found['name']} guards a route and lets everyone pass here")
        return found


def _http_api(
    logical_id: str,
    properties: Mapping[str, Any],
    reading: Reading,
) -> Iterator[RouteSpec]:
    body = http_apis.document(logical_id, reading.resources, reading.names)
    cors = body.get("x-amazon-apigateway-cors")
    cors = cors or lower_keys(properties.get("CorsConfiguration") or {}) or None
    stages = http_apis.stages(logical_id, reading.resources, reading.names)
    if "BodyS3Location" in properties or "Fn::Transform" in body:
        unplayed = "its document is in S3"
        yield RouteSpec(function="", api_id=logical_id.lower(), unplayed=unplayed)
    for path, method, operation in operations(body):
        integration = http_apis.integration_of(body, operation)
        if integration.get("timeoutInMillis") is not None:
            number(integration, "timeoutInMillis", 30_000, 50, 30_000)
        default = operation.get("isDefaultRoute") or path.removeprefix("/") == "$default"
        authorizer = reading.authorizer(logical_id, body, operation)
        said = ""
        for stage, variables in stages.items():
            uri = with_variables(str(integration.get("uri") or "arn:"), variables)
            proxy = str(integration.get("type", "")).lower() == "http_proxy"
            function = None if proxy else function_name(uri)
            unplayed = http_apis.unplayed(integration, function)
            if unplayed and unplayed != said:
                resource = str(operation.get(http_apis.RESOURCE, logical_id))
                reading.complain(resource, f"route {method} {path} answers 501: {unplayed}")
            said = unplayed
            yield RouteSpec(
                function=function or "",
                unplayed=unplayed,
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
    logical_id: str,
    properties: Mapping[str, Any],
    reading: Reading,
) -> Iterator[RouteSpec]:
    function = function_name(properties["TargetFunctionArn"])
    if function is None:
        reading.complain(logical_id, "its target is not a function of this template")
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
    "AWS::ApiGateway::RestApi": rest_apis.routes,
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
