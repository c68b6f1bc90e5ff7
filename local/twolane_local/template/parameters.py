"""The values of a template's Parameters.

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
from twolane_local.template import yaml as template_yaml
from twolane_local.template.nested import is_stand_in

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

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


_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)")


def read_values(path: Path) -> dict[str, str]:
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


def read_samconfig(template: Path, environment: str = "default") -> SamConfig:
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


def parameters(
    template: Path, declared: Mapping[str, Any], environment: str = "default"
) -> dict[str, str]:
    """What the project itself gives the template that declares these: by this file, and by ``.env``
    where there is no default.
    """
    given = {**beside(template, declared), **read_samconfig(template, environment).parameters}
    return {name: value for name, value in given.items() if name in declared}


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
            parameters |= read_values(folder / given.removeprefix("file://"))
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
