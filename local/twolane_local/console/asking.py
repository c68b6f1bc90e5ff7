"""Reading what a request asks for: its body and its parameters, checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.console.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request


async def body_of(request: Request) -> dict[str, Any]:
    """The JSON object that was sent. Raises ``ProblemError``."""
    raw = await request.body()
    try:
        value = json.loads(raw or b"{}")
    except ValueError as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise ProblemError(400, "the body is JSON, but no object")
    return value


def field(
    body: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = None
) -> Any:
    """One field, of the kind that is wanted, or ``default`` where it is not given."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        wanted = " or ".join(each.__name__ for each in kinds)
        raise ProblemError(400, f"{name!r} is a {type(value).__name__}; it must be a {wanted}")
    return value


def needed(body: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """A field that must be given."""
    value = field(body, name, kind)
    if value is None:
        raise ProblemError(400, f"{name!r} is missing")
    return value


def texts(body: Mapping[str, Any], name: str) -> list[str] | None:
    """A field that is a list of texts."""
    values: list[str] | None = field(body, name, list)
    if values is not None and not all(isinstance(value, str) for value in values):
        raise ProblemError(400, f"{name!r} must be a list of texts")
    return values


def number(query: Mapping[str, str], name: str, default: int, most: int | None = None) -> int:
    """A parameter of the query that is a whole number."""
    text = query.get(name, "")
    if not text:
        return default
    if not text.isdigit():
        raise ProblemError(400, f"{name}={text!r} is no whole number from 0 on")
    return int(text) if most is None else min(int(text), most)
