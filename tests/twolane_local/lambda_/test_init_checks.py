"""A large stack is up before its functions are loaded, and names those that do not load."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from twolane_local.model import Options

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.emulator import Emulator

    from ...conftest import Emulate  # noqa: TID252

HEAD = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {CodeUri: src, Runtime: python3.13}}
Resources:
"""
CODE = """
import os

def handler(event, context):
    return [context.function_name, os.environ["AWS_LAMBDA_FUNCTION_NAME"], os.environ["NAME"]]
"""


def project(folder: Path, *names: str) -> Path:
    (folder / "src").mkdir()
    for name in names:
        code = "import nothing_there\n" if name == "Broken" else CODE
        (folder / "src" / f"{name.lower()}.py").write_text(code)
    path = folder / "template.yaml"
    path.write_text(
        HEAD
        + "".join(
            f"  {name}: {{Type: AWS::Serverless::Function, Properties: {{Handler: "
            f"{name.lower()}.handler, Environment: {{Variables: {{NAME: {name}}}}}}}}}\n"
            for name in names
        )
    )
    return path


def lines(emulator: Emulator) -> list[str]:
    return [str(event.data["line"]) for event in emulator.journal if "line" in event.data]


async def until(emulator: Emulator, text: str) -> None:
    async with asyncio.timeout(30):
        while not any(text in line for line in lines(emulator)):
            await asyncio.sleep(0.02)


def test_a_large_stack_starts_its_environments_with_their_invocations(
    tmp_path: Path, emulate: Emulate
) -> None:
    path = project(tmp_path, "One", "Broken", "Two")

    async def script(emulator: Emulator) -> None:
        assert emulator.problems == []
        assert len(emulator.functions) <= 1
        await until(emulator, "Broken: handler broken.handler")
        async with asyncio.timeout(30):
            await emulator.init_checks.ended()
        changed = emulator.options.template.with_name("two.py")
        changed.write_text("import not_here")
        changed.rename(changed.parent / "src" / "two.py")  # at once: a reload sees one change
        await until(emulator, "Two: handler two.handler")
        assert not any("One: handler" in line for line in lines(emulator))
        async with asyncio.timeout(30):
            await emulator.init_checks.ended()
        assert len(emulator.functions) == 0
        outcome = await emulator.functions.invoke("One", b"{}")
        assert json.loads(outcome.payload) == ["One", "One", "One"]
        assert len(emulator.functions) == 1

    emulate(Options(path, port=0, aws_port=0, warm_limit=2, reload=True), script)


def test_a_small_stack_has_them_ready(tmp_path: Path, emulate: Emulate) -> None:
    path = project(tmp_path, "One", "Broken", "Two")

    async def script(emulator: Emulator) -> None:
        (problem,) = emulator.problems
        assert "Broken: handler broken.handler" in problem
        assert len(emulator.functions) == 2

    emulate(Options(path, port=0, aws_port=0, warm_limit=3), script)
