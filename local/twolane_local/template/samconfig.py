"""What ``samconfig.toml`` beside a template says, as far as the emulator uses it.

https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/serverless-sam-cli-config.html
"""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template import parameter_files

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The tables that are read, the later ones winning: what is said for local use beats a deployment.
_COMMANDS = ("global", "deploy", "local_start_api")
#: Those that may name the template; ``deploy`` names what was built or packaged.
_TEMPLATES = ("global", "validate", "build", "local_start_api")
_BUILT = (".aws-sam", "build")


@dataclass(frozen=True, slots=True)
class SamConfig:
    """``stack_name`` and ``template_file`` are ``None`` where the file names none."""

    stack_name: str | None = None
    template_file: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def read(template: Path, environment: str = "default") -> SamConfig:
    """The configuration beside the template, of the project that it was built in, or of the current
    directory where that one names the template; an empty one where there is no such file.

    Raises ``TemplateError`` for a file that is no TOML.
    """
    folder = template.parent
    is_built = folder.absolute().parts[-2:] == _BUILT
    found = _in(folder.parent.parent if is_built else folder, environment)
    if found is None and folder.absolute() != Path.cwd():
        named = _in(Path(), environment)
        if (
            named
            and named.template_file
            and Path(named.template_file).absolute() == (template.absolute())
        ):
            return named
    return found or SamConfig()


def _in(folder: Path, environment: str) -> SamConfig | None:
    path = folder / "samconfig.toml"
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
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
            parameters |= parameter_files.read(folder / given.removeprefix("file://"))
        else:
            parameters |= overrides(given)
    return SamConfig(stack_name, _template_file(tables), parameters)


def _template_file(tables: Mapping[str, Any]) -> str | None:
    named: Any = None
    for command in _TEMPLATES:
        table = (tables.get(command) or {}).get("parameters") or {}
        named = table.get("template_file", table.get("template", named))
    return named if isinstance(named, str) else None


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
