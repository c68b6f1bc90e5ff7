"""Reads the values of a template's Parameters: from files, ``.env`` and ``samconfig.toml``.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
"""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.errors import TemplateError
from twolane_local.template.nested import is_parent_expression
from twolane_local.template.yaml import read_fragment

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from twolane_local.template.yaml import TemplateFile

#: The type of a parameter whose value is a name in Systems Manager's parameter store.
_STORED = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")


def without_value(declared: Mapping[str, Any], given: Container[str]) -> list[str]:
    """Return the parameters that have neither a value nor a default."""
    return [
        name
        for name, parameter in declared.items()
        if name not in given and parameter.get("Default") is None
    ]


def parameter_values(source: TemplateFile, given: Mapping[str, str]) -> dict[str, Any]:
    """Return every value; one in the store is a reference to it. Raises ``TemplateError``."""
    declared = source.content.get("Parameters") or {}
    unknown = sorted(set(given) - set(declared))
    if unknown:
        known = ", ".join(sorted(declared)) or "none"
        raise TemplateError(f"{source.path} has no parameter {unknown[0]!r}; it has: {known}")
    open_ones = without_value(declared, given)
    if open_ones:
        raise TemplateError(_no_value(source, declared, open_ones))
    found: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.get("Default"))
        allowed = parameter.get("AllowedValues")
        if allowed and str(value) not in map(str, allowed) and not is_parent_expression(value):
            choices = ", ".join(map(str, allowed))
            raise TemplateError(
                f"{source.path}: parameter {name}={value!r} is not one of {choices}"
            )
        found[name] = _typed(str(parameter.get("Type", "String")), as_text(value))
    return found


def _no_value(source: TemplateFile, declared: Mapping[str, Any], names: list[str]) -> str:
    def described(name: str) -> str:
        description = str(declared[name].get("Description") or "").strip()
        return f"{name} ({description})" if description else name

    one = len(names) == 1
    flags = " ".join(f"--parameter {name}=VALUE" for name in names)
    return (
        f"{source.path}: {'parameter' if one else 'parameters'} {', '.join(map(described, names))} "
        f"{'has' if one else 'have'} no default; give {flags}, a --parameter-file, "
        "parameter_overrides in samconfig.toml, or a line in .env"
    )


def _typed(kind: str, text: str) -> Any:
    stored = _STORED.fullmatch(kind)
    inner = stored[1] if stored else kind
    if stored and not is_parent_expression(text):
        text = f"{{{{resolve:ssm:{text}}}}}"
    if inner == "CommaDelimitedList" or inner.startswith("List<"):
        return [item.strip() for item in text.split(",")]
    return text


def as_text(value: Any) -> str:
    """Return a value as CloudFormation writes it: ``true``, ``a,b``."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)")


def read_parameter_file(path: Path) -> dict[str, str]:
    """Return the values in a file. Raises ``TemplateError``."""
    if path.name.endswith(".env") or path.name.startswith(".env"):
        return _variables(path)
    content = read_fragment(path)
    if isinstance(content, dict):
        # CodePipeline's files have the values below this key.
        inner = content.get("Parameters")
        return _as_texts(path, inner if isinstance(inner, dict) else content)
    if isinstance(content, list):
        return _as_texts(path, dict(_pairs(path, content)))
    raise TemplateError(f"{path} holds no parameters: it must be a map, or a list")


def from_env_file(template: Path, declared: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of parameters without a default from ``.env`` beside the template. The
    variable ``DATABASE_URL`` is for ``DatabaseUrl``, too: a parameter's name has no underscore.
    """
    path = template.parent / ".env"
    if not path.is_file():
        return {}
    wanted = {name for name, each in declared.items() if each.get("Default") is None}
    plain = {name.lower(): name for name in wanted}
    found: dict[str, str] = {}
    for name, value in _variables(path).items():
        if name in wanted:
            found[name] = value
        elif (meant := plain.get(name.replace("_", "").lower())) is not None:
            found.setdefault(meant, value)
    return found


def _pairs(path: Path, items: Iterable[Any]) -> Iterable[tuple[str, Any]]:
    for item in items:
        match item:
            case {"ParameterKey": str() as name, "ParameterValue": value}:
                yield name, value
            case {"ParameterKey": str(), "UsePreviousValue": _}:
                continue  # no previous stack exists
            case str() if "=" in item:
                name, _, text = item.partition("=")
                yield name, text
            case _:
                raise TemplateError(
                    f"{path}: {item!r:.60} is neither {{ParameterKey, ParameterValue}} nor "
                    "'NAME=VALUE'"
                )


def _as_texts(path: Path, values: Mapping[str, Any]) -> dict[str, str]:
    for name, value in values.items():
        items = value if isinstance(value, list) else [value]
        if any(item is None or isinstance(item, dict | list) for item in items):
            raise TemplateError(f"{path}: {name} must be text, a number, or a list of them")
    return {name: as_text(value) for name, value in values.items()}


def _variables(path: Path) -> dict[str, str]:
    """Read ``NAME=value`` lines as a shell does, without expansion."""
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


#: The tables that are read. A later one overrides an earlier one: local use overrides deployment.
_COMMANDS = ("global", "deploy", "local_start_api")
#: The tables that may name the template; ``deploy`` names a built or packaged one.
_TEMPLATES = ("global", "validate", "build", "local_start_api")
_BUILT = (".aws-sam", "build")


@dataclass(frozen=True, slots=True)
class SamConfig:
    """The values in ``samconfig.toml`` that twolane uses."""

    stack_name: str | None = None
    template_file: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def read_samconfig(template: Path, environment: str = "default") -> SamConfig:
    """Return the configuration beside the template or its project, else the current directory's if
    it names this template, else an empty one. Raises ``TemplateError`` if it is not TOML.
    """
    folder = template.parent
    is_built = folder.absolute().parts[-2:] == _BUILT
    found = _read_config(folder.parent.parent if is_built else folder, environment)
    if found is None and folder.absolute() != Path.cwd():
        current = _read_config(Path(), environment)
        file = current.template_file if current else None
        if current and file and Path(file).absolute() == template.absolute():
            return current
    return found or SamConfig()


def project_values(
    template: Path, declared: Mapping[str, Any], environment: str = "default"
) -> dict[str, str]:
    """Return the values of declared parameters in the project's ``samconfig.toml`` and ``.env``."""
    config = read_samconfig(template, environment)
    given = {**from_env_file(template, declared), **config.parameters}
    return {name: value for name, value in given.items() if name in declared}


def _read_config(folder: Path, environment: str) -> SamConfig | None:
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
            parameters |= read_parameter_file(folder / given.removeprefix("file://"))
        else:
            parameters |= parse_overrides(given)
    return SamConfig(stack_name, _template_file(tables), parameters)


def _template_file(tables: Mapping[str, Any]) -> str | None:
    named: Any = None
    for command in _TEMPLATES:
        table = (tables.get(command) or {}).get("parameters") or {}
        named = table.get("template_file", table.get("template", named))
    return named if isinstance(named, str) else None


def parse_overrides(value: Any) -> dict[str, str]:
    """Parse ``'A="x y" B=z'``, a list of these, or ``ParameterKey=A,ParameterValue=x``."""
    words = value if isinstance(value, list) else shlex.split(str(value or ""))
    found: dict[str, str] = {}
    for word in words:
        for pair in shlex.split(str(word)) if isinstance(value, list) else [str(word)]:
            name, _, text = pair.partition("=")
            if name == "ParameterKey":
                name, _, text = text.partition(",ParameterValue=")
            found[name] = text
    return found
