"""What belongs to services that the emulator plays, but is not played itself: said, never silent.

Roles, permissions, stages, alarms and log groups are not in here: nothing of a function's own
behaviour depends on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.template import include

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
