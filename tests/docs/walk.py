"""Prints the modules of ours that one inline request and one deferred task enter, as JSON.

``python tests/docs/walk.py --write`` puts them into docs/architecture.md.

An emulator in one process, with the functions in it, serves each once to be warm, and then once
more while each thread is profiled. A module counts when one of its functions is called.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from twolane_local.emulator import Emulator
from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

ROOT = Path(__file__).parents[2]
TREES = {str(ROOT / "handlers"): "twolane", str(ROOT / "local"): "twolane_local"}
PAGE = ROOT / "docs" / "architecture.md"
BODY = {"email": "user@example.com", "message": "Hello"}


class Walk:
    """The modules whose functions are called, in the order of their first call."""

    def __init__(self) -> None:
        self.modules: dict[str, None] | None = None

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or self.modules is None or frame.f_code.co_name == "<module>":
            return
        file = frame.f_code.co_filename
        for tree, package in TREES.items():
            if file.startswith(f"{tree}/{package}/"):
                name = file[len(tree) + 1 : -len(".py")].replace("/", ".")
                self.modules[name.removesuffix(".__init__")] = None


async def main() -> None:
    walk, found = Walk(), {}
    sys.setprofile(walk)
    threading.setprofile(walk)
    emulator = Emulator(Options(ROOT / "template.yaml", port=0, aws_port=0, in_process=True))
    await emulator.start()
    try:
        (api,) = emulator.addresses.apis.values()
        async with httpx.AsyncClient(base_url=api) as client:

            async def inline() -> None:
                (await client.post("/notify", json=BODY)).raise_for_status()
                await asyncio.sleep(0.5)

            async def deferred() -> None:
                from app.tasks import send_notification

                await asyncio.to_thread(send_notification.delay, **BODY)
                await asyncio.sleep(2)

            await asyncio.sleep(2)  # what the start still does is no part of a walk
            for kind, lane in (("inline", inline), ("deferred", deferred)):
                await lane()
                if (second := time.time() % 60) > 50:  # a tick of beat's is due at the minute
                    await asyncio.sleep(60 - second + 5)
                walk.modules = {}
                await lane()
                found[kind] = list(walk.modules)
                walk.modules = None
    finally:
        await emulator.stop()
    if "--write" in sys.argv:
        PAGE.write_text(written(PAGE.read_text(), found))
    else:
        sys.stdout.write(json.dumps(found) + "\n")


def written(page: str, found: Mapping[str, Sequence[str]]) -> str:
    """The page with these walks in it: each module with the first sentence of its docstring."""
    for kind, names in found.items():
        mark = f"<!-- walk: {kind} -->\n"
        head, _, rest = page.partition(mark)
        tail = rest[rest.index("\n## ") :]
        lines = [f"{number}. `{name}`: {_first(name)}" for number, name in enumerate(names, 1)]
        page = head + mark + "\n" + "\n".join(lines) + "\n" + tail
    return page


def _first(name: str) -> str:
    text = sys.modules[name].__doc__ or ""
    return " ".join(text.strip().split("\n\n")[0].split()).rstrip(".")


if __name__ == "__main__":
    asyncio.run(main())
