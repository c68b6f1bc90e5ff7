"""Templates that CDK, the Serverless Framework and SAM made: started where they are, and called."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = Path(__file__).parents[2] / "templates"
pytestmark = pytest.mark.slow


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[tuple[dict[str, Any], Path]]:
    """``twolane up`` in the folder: what it prints, and the file with what it says."""
    log = folder / "log.txt"
    command = [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0"]
    with log.open("w") as errors:
        child = subprocess.Popen(
            [*command, "--no-console", "--json", *arguments],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
            start_new_session=True, text=True,
        )  # fmt: skip
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            assert line, log.read_text()
            yield json.loads(line), log
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate(timeout=30)


def copy(shape: str, folder: Path) -> Path:
    return Path(shutil.copytree(SHAPES / shape, folder / shape))


def eventually(log: Path, words: str) -> None:
    limit = time.monotonic() + 20
    while words not in log.read_text():
        assert time.monotonic() < limit, log.read_text()
        time.sleep(0.05)


def test_cdk(tmp_path: Path) -> None:
    """Assets by metadata and by manifest, a nested stack, a custom resource that is named."""
    with up(copy("cdk", tmp_path), "--verbose") as (answer, log):
        assert httpx.get(answer["outputs"]["Url"] + "tea", timeout=20).text == "ordered"
        eventually(log, "worked on /tea")
    text = log.read_text()
    assert "template: cdk.out/Shop.template.json (the stack of cdk.out)" in text
    # Which Python runs them depends on the machine.
    notes = [line for line in text.splitlines() if line.startswith("!") and " runs " not in line]
    assert len(notes) == 2, notes  # neither CDK's own metadata nor its parameter
    assert any("PhotosAutoDelete is not emulated" in note for note in notes)
    assert any("AutoDeleteProvider cannot run here" in note for note in notes)


def test_several_stacks_of_cdk(tmp_path: Path) -> None:
    folder = copy("cdk", tmp_path)
    manifest = folder / "cdk.out" / "manifest.json"
    content = json.loads(manifest.read_text())
    other = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "B.template.json"}}
    content["artifacts"]["B"] = other
    manifest.write_text(json.dumps(content))
    command = [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0"]
    ended = subprocess.run(
        command, check=False, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert ended.stderr == (
        "! cdk.out holds 2 stacks: cdk.out/B.template.json, cdk.out/Shop.template.json; "
        "name one: --template cdk.out/B.template.json\n"
    )


def test_serverless(tmp_path: Path) -> None:
    """The archive that the framework made; another function's, which is not there, alone fails."""
    folder = copy("serverless", tmp_path)
    with zipfile.ZipFile(folder / ".serverless" / "notes.zip", "w") as archive:
        archive.write(folder / "handler.py", "handler.py")
    with up(folder) as (answer, log):
        hello = httpx.get(answer["outputs"]["HelloLambdaFunctionUrl"], timeout=20)
        assert hello.text == "hello from notes-dev-hello"
    text = log.read_text()
    assert ".serverless/cloudformation-template-update-stack.json (the Serverless" in text
    assert "OtherLambdaFunction cannot run here" in text


def test_sam_build(tmp_path: Path) -> None:
    """A build after the last change runs; after a change, the source runs."""
    folder = copy("sam_build", tmp_path)
    (folder / "aws-sam").rename(folder / ".aws-sam")
    now = time.time()
    os.utime(folder / ".aws-sam" / "build" / "template.yaml", (now + 5, now + 5))
    with up(folder) as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "from the build"
    assert "template: .aws-sam/build/template.yaml (it is newer than" in log.read_text()
    os.utime(folder / "src" / "hello.py", (now + 9, now + 9))
    with up(folder) as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "from the source"
    assert "template:" not in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="`sam build` compiles for Linux")
def test_a_build_that_is_a_copy(tmp_path: Path) -> None:
    """The source is served, with what was installed, so that a change is seen: then and later."""
    folder = copy("sam_build", tmp_path)
    runtime = f"python{sys.version_info.major}.{sys.version_info.minor}"
    template = folder / "template.yaml"
    template.write_text(template.read_text().replace("python3.13", runtime))
    built = folder / ".aws-sam" / "build"
    (folder / "aws-sam").rename(folder / ".aws-sam")
    source = folder / "src" / "hello.py"
    shutil.copy(built / "Hello" / "hello.py", source)
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    (folder / ".aws-sam" / "build.toml").write_text(
        f"""
[function_build_definitions.0c5f]
codeuri = "{folder}/src"
runtime = "{runtime}"
architecture = "{machine}"
packagetype = "Zip"
functions = ["Hello"]

[function_build_definitions.0c5f.metadata]
SamResourceId = "Hello"
"""
    )
    now = time.time()
    for path in (folder / ".aws-sam" / "build.toml", built / "template.yaml"):
        os.utime(path, (now + 5, now + 5))
    with up(folder) as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "from the build"
        source.write_text(source.read_text().replace("greeting.TEXT", "greeting.TEXT + '!'"))
        os.utime(source, (now + 9, now + 9))
        eventually(log, "hello.py changed")
        limit = time.monotonic() + 20
        while httpx.get(answer["outputs"]["Url"], timeout=20).text != "from the build!":
            assert time.monotonic() < limit, log.read_text()
            time.sleep(0.05)
    assert "template: template.yaml (with the packages in .aws-sam/build)" in log.read_text()
    assert "!" not in (built / "Hello" / "hello.py").read_text()
    with up(folder) as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "from the build!"


def test_sam_package(tmp_path: Path) -> None:
    """Code that was uploaded is run from where the template beside it has it, or named."""
    with up(copy("sam_package", tmp_path), "--template", "packaged.yaml") as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "from the sibling's code"
    text = log.read_text()
    assert "packaged.yaml:13: Elsewhere cannot run here" in text
    assert "packaged.yaml:18: Shared is not emulated" in text
    assert "Traceback" not in text


def test_where_samconfig_says(tmp_path: Path) -> None:
    """The template, the stack's name and the parameters of the project that it is in."""
    with up(copy("usual_places", tmp_path)) as (answer, log):
        assert httpx.get(answer["outputs"]["Url"], timeout=20).text == "shop configured"
    assert "template: infra/shop.yml (samconfig.toml names it)" in log.read_text()
