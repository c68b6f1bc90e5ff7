"""The sources of a function's code: layers, folders, archives, requirements, interpreters."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from twolane_local.aws.sqs.service import NewMessage

from . import projects

if TYPE_CHECKING:
    from twolane_local.emulator import Emulator

ELSEWHERE = "arn:aws:lambda:us-east-1:210987654321:layer:pepper:7"
CAN_INSTALL = shutil.which("uv") or shutil.which("pip") or find_spec("pip")


async def get(emulator: Emulator, path: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.get(f"{emulator.addresses.apis['serverlesshttpapi']}{path}")


def test_layers_are_on_the_path_the_later_over_the_earlier(tmp_path: Path) -> None:
    path = projects.copy("layers", tmp_path)
    archive = path.parent / "zipped.zip"

    def pack(name: str) -> None:
        with zipfile.ZipFile(archive, "w") as opened:
            folder = f"python/lib/python{projects.OURS}/site-packages"
            opened.writestr(f"{folder}/herb.py", f"NAME = {name!r}\n")

    pack("dill")

    async def script(emulator: Emulator) -> None:
        assert (await get(emulator, "/bowl")).json() == ["season", "dill", "ground"]
        payload, error = await projects.invoke(emulator, "Second")
        assert (error, payload["body"]) == (None, '["salt", "dill", "ground"]')
        elsewhere = (
            f"{projects.line_of(path, 'Soup')}: Soup: its layer {ELSEWHERE} is not on this "
            "machine: its packages must be installed beside twolane"
        )
        assert [note for note in emulator.notes if ELSEWHERE in note] == [elsewhere]
        assert len(emulator.notes) == 2  # and the one in a bucket
        pack("mint")
        async with asyncio.timeout(20):
            while "mint" not in (await get(emulator, "/bowl")).text:
                await asyncio.sleep(0.05)

    projects.run(path, script, reload=True)


@pytest.mark.slow
def test_a_path_may_stand_where_a_package_uploads_it_from(tmp_path: Path) -> None:
    async def script(emulator: Emulator) -> None:
        assert emulator.notes == []
        assert await projects.invoke(emulator, "Pesto") == (["basil"], None)
        emulator.queues.send("local-Queue", NewMessage(body="garlic"))
        async with asyncio.timeout(20):
            while not any(event.kind == "message.deleted" for event in emulator.journal):
                await asyncio.sleep(0.02)

    projects.run(projects.copy("code_dot", tmp_path), script)


def with_wheels(tmp_path: Path) -> Path:
    path = projects.copy("requirements", tmp_path)
    projects.wheel(path.parent / "tea", "cinnamon_stick", "NAME = 'cinnamon'\n")
    projects.wheel(path.parent / "shelf", "saucer", "NAME = 'saucer'\n")
    return path


@pytest.mark.slow
def test_what_is_not_installed_is_named_with_its_file(tmp_path: Path) -> None:
    path = with_wheels(tmp_path)
    folder = path.parent
    tea = f"{folder}/tea/requirements.txt names cinnamon_stick: `twolane up --build` installs it"
    milk = (
        f"no requirements file names vanilla_pod; name it in {folder}/milk/requirements.txt, and "
        "`twolane up --build` installs it"
    )

    async def script(emulator: Emulator) -> None:
        by_id = {note.split(": ")[1]: note for note in emulator.notes}
        assert by_id.keys() == {"Tea", "Coffee", "Milk"}
        assert tea in by_id["Tea"]
        assert "coffee/requirements.txt names star_anise" in by_id["Coffee"]
        assert milk in by_id["Milk"]
        assert (await get(emulator, "/cup")).status_code == 500
        with_request_id = [
            event.request_id is not None
            for event in emulator.journal
            if event.kind == "log" and event.data.get("line") == tea
        ]
        assert with_request_id == [True]

    projects.run(path, script)


@pytest.mark.slow
@pytest.mark.skipif(not CAN_INSTALL, reason="neither uv nor pip")
def test_build_installs_the_requirements_of_each(tmp_path: Path) -> None:
    path = with_wheels(tmp_path)
    installed: list[int] = []

    async def script(emulator: Emulator) -> None:
        assert (await get(emulator, "/cup")).text == "cinnamon in a cup on a saucer"
        (remark,) = [each for each in emulator.remarks if "cannot be installed" in each]
        tool, _, why = remark.partition("cannot be installed: ")[2].partition(": ")
        assert remark.startswith(
            f"{projects.line_of(path, 'Coffee')}: Coffee: {path.parent}/coffee/requirements.txt"
        )
        assert tool in {"uv", "pip"}
        assert why
        failing = {note.split(": ")[1] for note in emulator.notes}
        assert failing == {"Coffee", "Milk"}
        installed.append(sum("installed" in line for line in projects.lines(emulator)))
        assert not (tmp_path / "requirements" / "tea" / "cinnamon_stick.py").exists()

    projects.run(path, script, build=True)
    projects.run(path, script, build=True)
    assert installed == [2, 0]

    async def after(emulator: Emulator) -> None:
        assert (await get(emulator, "/cup")).text == "clove in a cup on a saucer"

    # A package of the project's own keeps its line of the requirements while its code changes.
    projects.wheel(path.parent / "tea", "cinnamon_stick", "NAME = 'clove'\n")
    projects.run(path, after, build=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="`sam build` compiles for Linux")
def test_build_uses_what_sam_has_built_since(tmp_path: Path) -> None:
    path = projects.copy("requirements", tmp_path)
    root = path.parent
    built = root / ".aws-sam" / "build"
    for name, modules in {
        "Tea": {"cinnamon_stick": "NAME = 'old cinnamon'\n", "tea": "raise SystemExit"},
        "Shelf/python": {"saucer": "NAME = 'plate'\n", "cup": "raise SystemExit"},
    }.items():
        (built / name).mkdir(parents=True)
        for module, text in modules.items():
            (built / name / f"{module}.py").write_text(text)
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    runtime = f"python{projects.OURS}"
    (root / ".aws-sam" / "build.toml").write_text(
        f"""
[function_build_definitions.0c5f]
codeuri = "{root}/tea"
runtime = "{runtime}"
architecture = "{machine}"
packagetype = "Zip"
functions = ["Tea"]

[layer_build_definitions.4ac4]
layer_name = "Shelf"
codeuri = "{root}/shelf"
build_method = "{runtime}"
compatible_runtimes = ["{runtime}"]
architecture = "{machine}"
layer = "Shelf"
"""
    )
    answers: list[str] = []

    async def script(emulator: Emulator) -> None:
        answers.append((await get(emulator, "/cup")).text)

    projects.run(path, script, build=True)
    later = (root / ".aws-sam" / "build.toml").stat().st_mtime + 5
    projects.wheel(root / "tea", "cinnamon_stick", "NAME = 'cinnamon'\n")
    os.utime(root / "tea" / "requirements.txt", (later, later))
    if CAN_INSTALL:
        projects.run(path, script, build=True)
    assert answers == [
        "old cinnamon in a cup on a plate", "cinnamon in a cup on a plate",
    ][: len(answers)]  # fmt: skip


def another_python() -> tuple[str, Path] | None:
    """The version and folder of one that runs, from the PATH or where pyenv keeps them."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *home.glob("versions/*/bin")]
    for folder in map(Path, folders):
        for version in ("3.10", "3.11", "3.12", "3.13", "3.14"):
            python = folder / f"python{version}"
            if version == projects.OURS or not python.is_file():
                continue
            done = subprocess.run([python, "-c", ""], capture_output=True, check=False)
            if done.returncode == 0:
                return version, folder
    return None


OTHER = another_python()


@pytest.mark.slow
@pytest.mark.skipif(OTHER is None, reason="there is no other Python")
@pytest.mark.parametrize("fresh", [False, True], ids=["forked", "fresh"])
def test_another_interpreter_runs_what_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    assert OTHER is not None
    version, folder = OTHER
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    path = projects.copy("other_python", tmp_path)

    async def script(emulator: Emulator) -> None:
        emulator.queues.ensure("visitors", {})
        found, queues = (await get(emulator, "/door")).json()
        assert ".".join(map(str, found)) == version
        assert len(queues) == 1
        payload, error = await projects.invoke(emulator, "Needy")
        assert (payload, error) == ([list(sys.version_info[:2]), "fastapi"], None)
        assert emulator.notes == []
        needy = (
            f"{projects.line_of(path, 'Needy')}: Python {projects.OURS} runs Needy, which "
            f"asks for {version}: "
            f"{folder}/python{version} has no fastapi; `twolane up --build` installs what "
            "requirements name"
        )
        future = (
            f"{projects.line_of(path, 'Future')}: Python {projects.OURS} runs Future, which "
            f"asks for 3.99: there is no "
            "python3.99 on the PATH"
        )
        assert set(emulator.remarks) == {needy, future}

    projects.run(path, script, version, real_cold_starts=fresh)


@pytest.mark.slow
def test_a_nested_template_is_taken_up_when_it_changes(tmp_path: Path) -> None:
    path = projects.copy("nested", tmp_path)
    nested = path.parent / "rooms" / "template.yaml"

    async def script(emulator: Emulator) -> None:
        (api,) = emulator.addresses.apis.values()
        async with httpx.AsyncClient(timeout=30, base_url=api) as client:
            assert (await client.get("/table")).text == "stew"
            nested.write_text(nested.read_text().replace("stew", "pie"))
            async with asyncio.timeout(20):
                while (await client.get("/table")).text != "pie":
                    await asyncio.sleep(0.05)

    projects.run(path, script, reload=True)
