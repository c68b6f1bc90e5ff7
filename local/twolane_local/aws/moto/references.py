"""Values in moto that a template refers to: attributes, parameters and secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.aws.moto import imports
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def _backend() -> Any:
    from moto.secretsmanager.models import secretsmanager_backends

    return secretsmanager_backends[ACCOUNT][REGION]


def create_secrets(secrets: Iterable[Mapping[str, Any]]) -> None:
    """Create new secrets; an existing one keeps its value unless the template sets another one."""
    for properties in secrets:
        name, given = str(properties["Name"]), properties.get("SecretString")
        if name not in _backend().secrets:
            _backend().create_secret(
                name=name,
                secret_string=given or _generated(properties.get("GenerateSecretString") or {}),
                secret_binary=None,
                description=properties.get("Description"),
                tags=properties.get("Tags"),
                kms_key_id=properties.get("KmsKeyId"),
                client_request_token=None,
                replica_regions=[],
                force_overwrite=False,
            )
        elif given is not None and secret_value(name) != given:
            _backend().put_secret_value(
                secret_id=name,
                secret_string=given,
                secret_binary=None,
                client_request_token=None,
                version_stages=["AWSCURRENT"],
            )


def _generated(how: Mapping[str, Any]) -> str:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-properties-secretsmanager-secret-generatesecretstring.html"""
    from moto.secretsmanager.utils import random_password

    def excluded(what: str) -> bool:
        return str(how.get(what, False)).lower() == "true"

    password = random_password(
        password_length=int(how.get("PasswordLength", 32)),
        exclude_characters=str(how.get("ExcludeCharacters", "")),
        exclude_numbers=excluded("ExcludeNumbers"),
        exclude_punctuation=excluded("ExcludePunctuation"),
        exclude_uppercase=excluded("ExcludeUppercase"),
        exclude_lowercase=excluded("ExcludeLowercase"),
        include_space=excluded("IncludeSpace"),
        require_each_included_type=str(how.get("RequireEachIncludedType", True)).lower() == "true",
    )
    key = how.get("GenerateStringKey")
    if key is None:
        return password
    return json.dumps({**json.loads(how.get("SecretStringTemplate") or "{}"), key: password})


def secret_value(rest: str) -> str | None:
    """The value of ``id:SecretString:json-key:version-stage:version-id``; the id may be an ARN.

    Returns ``None`` if there is no such secret or key.
    """
    from moto.core.exceptions import JsonRESTError

    parts = rest.split(":")
    length = 7 if rest.startswith("arn:") else 1
    key, stage, version = (*parts[length + 1 :], "", "", "")[:3]
    try:
        secret = _backend().get_secret_value(
            secret_id=":".join(parts[:length]),
            version_id=version or None,
            version_stage=stage or None,
        )
        text = secret["SecretString"]
        found = json.loads(text)[key] if key else text
    except (JsonRESTError, KeyError, TypeError, ValueError):
        return None
    return str(found)


def has_value(resources: Mapping[str, Any], value: Mapping[str, Any] | str) -> bool:
    """True if moto's CloudFormation has a value for this ``Ref``, ``GetAtt`` or plain text.

    Otherwise it would refuse the whole stack.
    """
    with imports.without_validator():
        from moto.cloudformation.parsing import resource_class_from_type

    target = value.get("Fn::GetAtt") if isinstance(value, dict) else None
    if target is None:
        return True
    resource = resource_class_from_type(resources[target[0]]["Type"])
    return bool(resource.has_cfn_attr(target[1]))


def look_up(references: Iterable[str]) -> dict[str, str]:
    """The values of dynamic references (``ssm:/a/name``), as far as moto has them.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
    """
    found = {}
    for reference in references:
        service, _, rest = reference.partition(":")
        value = secret_value(rest) if service == "secretsmanager" else _parameter(rest)
        if value is not None:
            found[reference] = value
    return found


def _parameter(name: str) -> str | None:
    from moto.core.exceptions import ServiceException
    from moto.ssm.models import ssm_backends

    try:
        # The API accepts a name with its version as well.
        parameter = ssm_backends[ACCOUNT][REGION].get_parameter(name)
    except ServiceException:
        return None
    return None if parameter is None else str(parameter.value)
