"""MOCK integrations of REST APIs whose answer is fixed, as CORS preflights use them.

https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twolane_local.model import MockAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

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
