"""The values of a template's Parameters.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.nested import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from twolane_local.template.yaml import Source

#: Its value is the name of a parameter in the Systems Manager's store.
_STORED = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")


def missing(declared: Mapping[str, Any], given: Container[str]) -> list[str]:
    """The parameters that have neither a value nor a default."""
    return [
        name
        for name, parameter in declared.items()
        if name not in given and parameter.get("Default") is None
    ]


def values(source: Source, given: Mapping[str, str]) -> dict[str, Any]:
    """Every parameter's value. Raises ``TemplateError``.

    One in the parameter store is the dynamic reference to it.
    """
    declared = source.content.get("Parameters") or {}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise TemplateError(f"{source.path} has no parameter {unknown[0]!r}; it has: {known}")
    open_ones = missing(declared, given)
    if open_ones:
        raise TemplateError(_no_value(source, declared, open_ones))
    found: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.get("Default"))
        allowed = parameter.get("AllowedValues")
        if allowed and str(value) not in map(str, allowed) and not is_stand_in(value):
            choices = ", ".join(map(str, allowed))
            raise TemplateError(
                f"{source.path}: parameter {name}={value!r} is not one of {choices}"
            )
        found[name] = _typed(str(parameter.get("Type", "String")), _as_text(value))
    return found


def _no_value(source: Source, declared: Mapping[str, Any], names: list[str]) -> str:
    def said(name: str) -> str:
        description = str(declared[name].get("Description") or "").strip()
        return f"{name} ({description})" if description else name

    one = len(names) == 1
    flags = " ".join(f"--parameter {name}=VALUE" for name in names)
    return (
        f"{source.path}: {'parameter' if one else 'parameters'} {', '.join(map(said, names))} "
        f"{'has' if one else 'have'} no default; give {flags}, a --parameter-file, "
        "parameter_overrides in samconfig.toml, or a line in .env"
    )


def _typed(kind: str, text: str) -> Any:
    stored = _STORED.fullmatch(kind)
    inner = stored[1] if stored else kind
    if stored and not is_stand_in(text):
        text = f"{{{{resolve:ssm:{text}}}}}"
    if inner == "CommaDelimitedList" or inner.startswith("List<"):
        return [item.strip() for item in text.split(",")]
    return text


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
