"""Projects with an API: started, and called over HTTP."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from tests.twolane_local import running

from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twolane_local.emulator import Emulator

TEMPLATES = Path(__file__).parents[2] / "templates"
_WHERE = re.compile(r"^.*/template\.\w+:\d+: ")


def call(
    project: str,
    script: Callable[[Emulator, httpx.AsyncClient], Awaitable[None]],
    *notes: str,
    output: str = "Url",
) -> None:
    """Start it, look for what it names as not played, each with its line and once; and call it."""
    (template,) = (TEMPLATES / project).glob("template.*")

    async def called(emulator: Emulator) -> None:
        lines = [_WHERE.sub("", note) for note in emulator.notes if _WHERE.match(note)]
        assert len(lines) == len(emulator.notes)
        assert sorted(lines) == sorted(notes)
        base = emulator.stack.outputs[output]
        async with httpx.AsyncClient(base_url=base, timeout=20) as client:
            await script(emulator, client)

    # Pages of these names ask, as the templates' CORS has it.
    options = Options(template, port=0, aws_port=0, reload=False, allowed_hosts=(".example",))
    running.run(options, called)
