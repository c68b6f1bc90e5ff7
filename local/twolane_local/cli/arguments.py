"""``--args`` and ``--kwargs``: a task's arguments, as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.inspect.source import Edit

if TYPE_CHECKING:
    import argparse


def arguments_flags(parser: argparse.ArgumentParser, *, what: str) -> None:
    parser.add_argument("--args", metavar="JSON", help=f"{what}: a list, '[\"a\", 1]'")
    parser.add_argument("--kwargs", metavar="JSON", help=f"{what}, by name: '{{\"times\": 2}}'")


def edit_of(options: argparse.Namespace) -> Edit:
    """What the flags say. Raises ``LocalError`` for what is not a list, or not an object."""
    return Edit(
        args=_json(options.args, list, "--args", "'[\"a@example.com\", 2]'"),
        kwargs=_json(options.kwargs, dict, "--kwargs", "'{\"times\": 2}'"),
    )


def _json(text: str | None, kind: type[Any], flag: str, example: str) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise LocalError(f"{flag} is not JSON ({error}); write it as {example}") from error
    if not isinstance(value, kind):
        wanted = "list" if kind is list else "object"
        raise LocalError(f"{flag} takes a JSON {wanted}, as {example}")
    return value
