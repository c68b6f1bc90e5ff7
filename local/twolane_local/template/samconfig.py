"""What ``samconfig.toml`` beside a template says, as far as the emulator uses it.

https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
"""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import parameter_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The tables that are read, the later ones winning: what is said for local use beats a deployment.
_COMMANDS = ("global", "deploy", "local_start_api")


@dataclass(frozen=True, slots=True)
class SamConfig:
    """``stack_name`` is ``None`` where the file names none."""

    stack_name: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def read(template: Path, environment: str = "default") -> SamConfig:
    """The configuration beside the template; an empty one where there is no such file.

    Raises ``TemplateError`` for a file that is no TOML.
    """
    path = template.parent / "samconfig.toml"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return SamConfig()
    except (OSError, ValueError) as error:
        raise TemplateError(f"{path} cannot be read: {error}") from error
    stack_name: str | None = None
    parameters: dict[str, str] = {}
    tables = content.get(environment) or {}
    for command in _COMMANDS:
        table = (tables.get(command) or {}).get("parameters") or {}
        stack_name = table.get("stack_name", stack_name)
        given = table.get("parameter_overrides")
        if isinstance(given, str) and given.startswith("file://"):
            parameters |= parameter_files.read(template.parent / given.removeprefix("file://"))
        else:
            parameters |= overrides(given)
    return SamConfig(stack_name, parameters)


def overrides(value: Any) -> dict[str, str]:
    """``'A="x y" B=z'``, a list of such, or the long form ``ParameterKey=A,ParameterValue=x``."""
    words = value if isinstance(value, list) else shlex.split(str(value or ""))
    found: dict[str, str] = {}
    for word in words:
        for pair in shlex.split(str(word)) if isinstance(value, list) else [str(word)]:
            name, _, text = pair.partition("=")
            if name == "ParameterKey":
                name, _, text = text.partition(",ParameterValue=")
            found[name] = text
    return found
