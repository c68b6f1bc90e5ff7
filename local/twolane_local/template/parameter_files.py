"""Values for a template's Parameters from files.

JSON or YAML in the forms that AWS's own tools take, and ``.env``:
https://docs.aws.amazon.com/cli/latest/reference/cloudformation/deploy/
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import yaml as template_yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)")


def read(path: Path) -> dict[str, str]:
    """The values in one file. Raises ``TemplateError``."""
    if path.name.endswith(".env") or path.name.startswith(".env"):
        return _variables(path)
    content = template_yaml.fragment(path)
    if isinstance(content, dict):
        # CodePipeline's files have them below this.
        inner = content.get("Parameters")
        return _texts(path, inner if isinstance(inner, dict) else content)
    if isinstance(content, list):
        return _texts(path, dict(_pairs(path, content)))
    raise TemplateError(f"{path} holds no parameters: it must be a map, or a list")


def beside(template: Path, declared: Mapping[str, Any]) -> dict[str, str]:
    """Of ``.env`` beside a template, the values of parameters that have no default."""
    path = template.parent / ".env"
    if not path.is_file():
        return {}
    wanted = {name for name, each in declared.items() if each.get("Default") is None}
    return {name: value for name, value in _variables(path).items() if name in wanted}


def _pairs(path: Path, items: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for item in items:
        match item:
            case {"ParameterKey": str() as name, "ParameterValue": value}:
                yield name, value
            case {"ParameterKey": str(), "UsePreviousValue": _}:
                continue  # there is no stack before this one
            case str() if "=" in item:
                name, _, text = item.partition("=")
                yield name, text
            case _:
                raise TemplateError(
                    f"{path}: {item!r:.60} is neither {{ParameterKey, ParameterValue}} nor "
                    "'NAME=VALUE'"
                )


def _texts(path: Path, values: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        if any(item is None or isinstance(item, dict | list) for item in items):
            raise TemplateError(f"{path}: {name} must be text, a number, or a list of them")
        found[name] = ",".join(
            str(item).lower() if isinstance(item, bool) else str(item) for item in items
        )
    return found


def _variables(path: Path) -> dict[str, str]:
    """``NAME=value`` lines, as a shell reads them but with nothing expanded."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path} cannot be read: {error}") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        try:
            words = shlex.split(match[2], comments=True) if match else None
        except ValueError:
            words = None
        if match is None or words is None:
            raise TemplateError(f"{path}:{number} is not NAME=VALUE")
        found[match[1]] = " ".join(words)
    return found
