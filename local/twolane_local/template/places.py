"""Finds a project's template.

It looks where the SAM CLI does, and where CDK and the Serverless Framework write their templates:
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-build.html
https://docs.aws.amazon.com/cdk/v2/guide/configure-synth.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import installation
from twolane_local.errors import TemplateError
from twolane_local.template import parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("template.yaml", "template.yml", "template.json")
BUILT = Path(".aws-sam", "build", "template.yaml")
_SERVERLESS = Path(".serverless", "cloudformation-template-update-stack.json")


@dataclass(frozen=True, slots=True)
class FoundTemplate:
    """A template's path; ``why`` it was chosen, if that is not obvious."""

    path: Path
    why: str = ""


def find_template(folder: Path, environment: str = "default") -> FoundTemplate:
    """Return it. Raises ``TemplateError`` for several CDK stacks or if it must be built first."""
    written = _written(folder, environment)
    if written is not None:
        built = folder / BUILT
        if is_newest(built, written.path):
            if installation.read_sam_build(written.path.resolve().parent).is_copy:
                # The source runs, so that a change is seen, with the packages of the build.
                return replace(written, why=f"with the packages in {built.parent}")
            return FoundTemplate(
                built,
                f"it is newer than {written.path} and its source; after a change, run `sam build` "
                f"again or name --template {written.path}",
            )
        return written
    found = _cdk(folder) or _serverless(folder)
    if found is not None:
        return found
    if (folder / BUILT).is_file():
        return FoundTemplate(folder / BUILT, "there is no other template")
    # The usual name: reading it fails with an error that says what to do.
    return FoundTemplate(folder / _NAMES[0])


def _written(folder: Path, environment: str) -> FoundTemplate | None:
    named = parameters.read_samconfig(folder / _NAMES[0], environment).template_file
    if named is not None:
        return FoundTemplate(folder / named, "samconfig.toml names it")
    for number, name in enumerate(_NAMES):
        if (folder / name).is_file():
            return FoundTemplate(folder / name, "" if number == 0 else "there is no template.yaml")
    return None


def is_newest(built: Path, template: Path) -> bool:
    """Return whether ``sam build`` was run after the last change."""
    built_at = installation.changed_at(built)
    return built_at > 0 and all(
        installation.changed_at(path) < built_at for path in _sources(template)
    )


def _sources(template: Path) -> Iterator[Path]:
    yield template
    yield from installation.code_below(template.parent, (".py", ".txt", ".toml"))


def _cdk(folder: Path) -> FoundTemplate | None:
    """Return the only stack of ``cdk.out``, or of the output folder that ``cdk.json`` names."""
    settings = _json(folder / "cdk.json")
    out = folder / str(settings.get("output") or "cdk.out")
    if not (out / "manifest.json").is_file():
        if settings:
            raise TemplateError(f"{folder / 'cdk.json'}: {out} holds no stack; run `cdk synth`")
        return None
    stacks = sorted(_stacks(out))
    if not stacks:
        raise TemplateError(f"{out}/manifest.json names no stack; run `cdk synth` again")
    if len(stacks) > 1:
        names = ", ".join(map(str, stacks))
        raise TemplateError(
            f"{out} holds {len(stacks)} stacks: {names}; name one: --template {stacks[0]}"
        )
    return FoundTemplate(stacks[0], f"the stack of {out}")


def _stacks(assembly: Path) -> Iterator[Path]:
    """https://docs.aws.amazon.com/cdk/api/v2/docs/cloud-assembly-schema-readme.html"""
    for artifact in (_json(assembly / "manifest.json").get("artifacts") or {}).values():
        properties = artifact.get("properties") or {}
        if artifact.get("type") == "aws:cloudformation:stack":
            yield assembly / str(properties.get("templateFile"))
        elif artifact.get("type") == "cdk:cloud-assembly":  # the stage of a pipeline
            yield from _stacks(assembly / str(properties.get("directoryName")))


def _serverless(folder: Path) -> FoundTemplate | None:
    path = folder / _SERVERLESS
    if path.is_file():
        return FoundTemplate(path, "the Serverless Framework packaged it")
    settings = [name for name in ("serverless.yml", "serverless.yaml") if (folder / name).is_file()]
    if settings:
        raise TemplateError(
            f"{folder / settings[0]}: {path} is not there; run `serverless package`"
        )
    return None


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TemplateError(f"{path} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}
