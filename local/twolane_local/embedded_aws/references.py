"""Values that a template asks moto for: attributes, parameters, secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.embedded_aws import secrets
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def answers(resources: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    """Whether moto's CloudFormation has a value for this ``Ref`` or ``GetAtt``.

    One that it does not have makes it refuse the whole stack.
    """
    from moto.cloudformation.parsing import resource_class_from_type

    target = value.get("Fn::GetAtt")
    if target is None:
        return True
    resource = resource_class_from_type(resources[target[0]]["Type"])
    return bool(resource.has_cfn_attr(target[1]))


def look_up(references: Iterable[str]) -> dict[str, str]:
    """The values of dynamic references (``ssm:/a/name``), of those that moto holds.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
    """
    found = {}
    for reference in references:
        service, _, rest = reference.partition(":")
        value = secrets.value(rest) if service == "secretsmanager" else _parameter(rest)
        if value is not None:
            found[reference] = value
    return found


def _parameter(name: str) -> str | None:
    from moto.core.exceptions import ServiceException
    from moto.ssm.models import ssm_backends

    try:
        # The API, too, takes a name with its version.
        parameter = ssm_backends[ACCOUNT][REGION].get_parameter(name)
    except ServiceException:
        return None
    return None if parameter is None else str(parameter.value)
