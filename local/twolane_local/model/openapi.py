"""Helpers for reading an API's OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
ANY = "x-amazon-apigateway-any-method"
_FUNCTION = re.compile(r"function:([^/:]+)(?::([^/:]+))?")
_VARIABLE = re.compile(r"\$\{stageVariables\.([^}]+)\}")


def function_name(value: Any) -> str | None:
    """Return the function in an ARN, an integration's URI, or a plain name."""
    text = str(value)
    match = _FUNCTION.search(text)
    if match:
        return match.group(1)
    return None if text.startswith("arn:") else text


def qualifier_of(value: Any) -> str:
    """Return the version or alias of the function in an ARN or an integration's URI."""
    match = _FUNCTION.search(str(value))
    return (match.group(2) or "") if match else ""


def with_variables(text: str, variables: Mapping[str, str]) -> str:
    """Return an integration's address with a stage's variables filled in:
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-stages.stage-variables.html
    https://docs.aws.amazon.com/apigateway/latest/developerguide/stage-variables.html
    """
    return _VARIABLE.sub(lambda match: str(variables.get(match[1], "")), text)


def lower_keys(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resource's properties with the spelling of an OpenAPI document."""
    return {key[0].lower() + key[1:]: value for key, value in properties.items()}


def is_true(value: Any) -> bool:
    """Return a boolean, which a template may write as text."""
    return str(value).lower() == "true"


def operations(body: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield path, method and definition of each operation."""
    for path, item in (body.get("paths") or {}).items():
        for method, operation in (item or {}).items():
            if method == ANY:
                yield path, "ANY", operation
            elif method in _METHODS:
                yield path, method.upper(), operation
