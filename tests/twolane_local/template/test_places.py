"""Finding a project's template."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from twolane_local.errors import TemplateError
from twolane_local.template import places
from twolane_local.template.nested import with_local_paths
from twolane_local.template.yaml import read_template

SHAPES = Path(__file__).parents[2] / "templates"


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


@pytest.mark.parametrize(
    "names",
    [
        ["template.yaml", "template.yml", "cdk.out/manifest.json"],
        ["template.yml", "template.json"],
        ["template.json", ".serverless/cloudformation-template-update-stack.json"],
        [".serverless/cloudformation-template-update-stack.json", "serverless.yml"],
        [".aws-sam/build/template.yaml"],
    ],
)
def test_the_first_of_them(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, *names)
    assert places.find_template(tmp_path).path == tmp_path / names[0]


def test_a_stage_of_a_pipeline(tmp_path: Path) -> None:
    inner = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "S.template.json"}}
    outer = {"type": "cdk:cloud-assembly", "properties": {"directoryName": "assembly-Prod"}}
    for name, artifact in ((".", outer), ("assembly-Prod", inner)):
        write(tmp_path, f"cdk.out/{name}/manifest.json")
        (tmp_path / "cdk.out" / name / "manifest.json").write_text(
            json.dumps({"artifacts": {"One": artifact}})
        )
    assert places.find_template(tmp_path).path == tmp_path / "cdk.out/assembly-Prod/S.template.json"


@pytest.mark.parametrize(
    ("name", "remedy"), [("cdk.json", "cdk synth"), ("serverless.yml", "serverless package")]
)
def test_what_is_not_compiled_yet(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_text('{"app": "x"}')
    with pytest.raises(TemplateError, match=f"run `{remedy}`"):
        places.find_template(tmp_path)


def test_a_build_is_taken_until_the_source_changes(tmp_path: Path) -> None:
    write(tmp_path, "template.yaml", "src/handler.py", ".aws-sam/build/template.yaml")
    built = tmp_path / ".aws-sam/build/template.yaml"
    (tmp_path / "src" / ".#handler.py").symlink_to("nobody@nowhere.1")  # of an editor
    (tmp_path / "src" / "gone.py").symlink_to("nowhere.py")
    for path in (tmp_path / "template.yaml", tmp_path / "src/handler.py"):
        os.utime(path, (1_000, 1_000))
    assert places.find_template(tmp_path).path == built
    os.utime(tmp_path / "src/handler.py")
    os.utime(built, (2_000, 2_000))
    assert places.find_template(tmp_path).path == tmp_path / "template.yaml"


def test_assets_without_metadata_are_found_by_the_manifest() -> None:
    source = read_template(SHAPES / "cdk" / "cdk.out" / "Shop.template.json")
    for resource in source.content["Resources"].values():
        resource.pop("Metadata", None)
    resources = with_local_paths(source)["Resources"]
    folder = source.path.parent
    assert resources["Front5A1B"]["Properties"]["Code"]["S3Key"] == str(folder / "asset.1a2b")
    nested = resources["BackNestedStackResource"]["Properties"]["TemplateURL"]
    assert nested == str(folder / "ShopBack.nested.template.json")
    assert resources["AutoDeleteProvider"] is source.content["Resources"]["AutoDeleteProvider"]
