"""Where a project keeps its template, when nobody names it.

As the SAM CLI looks for it, and where CDK and the Serverless Framework write what they compile:
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/sam-cli-command-reference-sam-build.html
https://docs.aws.amazon.com/cdk/v2/guide/configure-synth.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import installation as sam_build
from twolane_local.errors import TemplateError
from twolane_local.template import parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("template.yaml", "template.yml", "template.json")
BUILT = Path(".aws-sam", "build", "template.yaml")
_SERVERLESS = Path(".serverless", "cloudformation-template-update-stack.json")


@dataclass(frozen=True, slots=True)
class Found:
    """``why`` says why this one, where that is not plain."""

    path: Path
    why: str = ""


def find(folder: Path, environment: str = "default") -> Found:
    """The project's template. Raises ``TemplateError``, with how to choose, where several are one
    kind of it, and with what makes one where nothing is there.
    """
    written = _written(folder, environment)
    if written is not None:
        built = folder / BUILT
        if is_newest(built, written.path):
            if sam_build.read_sam_build(written.path.resolve().parent).is_copy:
                # So that a change is seen: what was built has the packages.
                return replace(written, why=f"with the packages in {built.parent}")
            return Found(
                built,
                f"it is newer than {written.path} and its source; after a change, run `sam build` "
                f"again or name --template {written.path}",
            )
        return written
    for look in (_cdk, _serverless, _only_built):
        found = look(folder)
        if found is not None:
            return found
    # The one that most projects have: what cannot be read says what to do.
    return Found(folder / _NAMES[0])


def _written(folder: Path, environment: str) -> Found | None:
    named = parameters.read_samconfig(folder / _NAMES[0], environment).template_file
    if named is not None:
        return Found(folder / named, "samconfig.toml names it")
    for number, name in enumerate(_NAMES):
        if (folder / name).is_file():
            return Found(folder / name, "" if number == 0 else "there is no template.yaml")
    return None


def is_newest(built: Path, template: Path) -> bool:
    """Whether ``sam build`` was run after the last change."""
    made = sam_build.changed_at(built)
    return made > 0 and all(sam_build.changed_at(path) < made for path in _sources(template))


def _sources(template: Path) -> Iterator[Path]:
    yield template
    yield from sam_build.code_below(template.parent, (".py", ".txt", ".toml"))


def _only_built(folder: Path) -> Found | None:
    built = folder / BUILT
    return Found(built, "there is no other template") if built.is_file() else None


def _cdk(folder: Path) -> Found | None:
    """The one stack of ``cdk.out``, or where ``cdk.json`` has its output."""
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
    return Found(stacks[0], f"the stack of {out}")


def _stacks(assembly: Path) -> Iterator[Path]:
    """https://docs.aws.amazon.com/cdk/api/v2/docs/cloud-assembly-schema-readme.html"""
    for artifact in (_json(assembly / "manifest.json").get("artifacts") or {}).values():
        properties = artifact.get("properties") or {}
        if artifact.get("type") == "aws:cloudformation:stack":
            yield assembly / str(properties.get("templateFile"))
        elif artifact.get("type") == "cdk:cloud-assembly":  # the stage of a pipeline
            yield from _stacks(assembly / str(properties.get("directoryName")))


def _serverless(folder: Path) -> Found | None:
    path = folder / _SERVERLESS
    if path.is_file():
        return Found(path, "the Serverless Framework packaged it")
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
