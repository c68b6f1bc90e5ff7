"""A project of ``tests/templates``, copied, started and called."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.twolane_local import running

from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twolane_local.emulator import Emulator

TEMPLATES = Path(__file__).parents[2] / "templates"
OURS = f"{sys.version_info.major}.{sys.version_info.minor}"


def copy(shape: str, folder: Path) -> Path:
    """Its template in a folder of one's own."""
    target = folder / shape
    shutil.copytree(TEMPLATES / shape, target, ignore=shutil.ignore_patterns("__pycache__"))
    return target / "template.yaml"


def run(
    path: Path, script: Callable[[Emulator], Awaitable[None]], version: str = OURS, **more: Any
) -> None:
    parameters = {"Runtime": f"python{version}"}
    options = Options(path, port=0, aws_port=0, parameters=parameters, **more)
    running.run(options, script)


def line_of(path: Path, logical_id: str) -> str:
    """File and line of a resource, as messages begin."""
    lines = path.read_text().splitlines()
    return f"{path}:{lines.index(f'  {logical_id}:') + 1}"


async def invoke(emulator: Emulator, logical_id: str) -> tuple[Any, str | None]:
    """The payload, and what ``X-Amz-Function-Error`` says."""
    outcome = await emulator.functions.invoke(logical_id, b"{}")
    return json.loads(outcome.payload), outcome.error


def lines(emulator: Emulator) -> list[str]:
    """Return the lines of the log."""
    return [str(event.data.get("line")) for event in emulator.journal if event.kind == "log"]


def wheel(folder: Path, name: str, text: str) -> Path:
    """A distribution with one module, which installs without a registry."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")
    return file
