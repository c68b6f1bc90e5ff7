"""A project under ``tests/templates``, started, and what its functions have seen."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from tests.twolane_local import running

from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twolane_local.emulator import Emulator
    from twolane_local.journal import Event

TEMPLATES = Path(__file__).parents[2] / "templates"


class Project:
    """One that runs. What a function prints behind ``SEEN`` is kept, by function."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self._seen: dict[str, list[dict[str, Any]]] = {}
        for event in emulator.journal:
            self._take(event)
        emulator.journal.subscribe(self._take)

    def _take(self, event: Event) -> None:
        line = str(event.data.get("line", ""))
        if event.function and line.startswith("SEEN "):
            self._seen.setdefault(event.function, []).append(json.loads(line[5:]))

    async def call(self, service: str, operation: str, **arguments: Any) -> Any:
        """One call of boto3's at the emulator's endpoint."""
        client = boto3.client(service, endpoint_url=self.emulator.addresses.aws)
        return await asyncio.to_thread(getattr(client, operation), **arguments)

    async def seen(self, function: str, count: int = 1) -> list[Any]:
        """Wait for this many new events of a function, and return each with the ARN."""
        async with asyncio.timeout(30):
            while len(self._seen.get(function, ())) < count:
                await asyncio.sleep(0.02)
        return self._seen.pop(function)

    def unseen(self, function: str) -> bool:
        """Return whether a function has seen nothing since the last call."""
        return function not in self._seen

    async def messages(self, queue: str, count: int = 1) -> list[str]:
        """The bodies on a queue, once there are so many."""
        async with asyncio.timeout(30):
            while self.emulator.queues.refreshed(queue).count("visible") < count:
                await asyncio.sleep(0.02)
        found = self.emulator.queues.receive(queue, 10)
        for item in found:
            self.emulator.queues.delete(queue, item.receipt_handle)
        return [item.message.body for item in found]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """The name on the note's line of the template, and the text, of each note."""
        template = self.emulator.options.template
        lines = template.read_text().splitlines()
        found = []
        for note in self.emulator.notes:
            number, _, said = note.removeprefix(f"{template}:").partition(": ")
            found.append((lines[int(number) - 1].split(":")[0].strip(), said))
        return found


def run(name: str, script: Callable[[Project], Awaitable[None]], **options: Any) -> None:
    """Start a project, and let the script call it."""
    template = TEMPLATES / name / "template.yaml"

    async def called(emulator: Emulator) -> None:
        await script(Project(emulator))

    running.run(
        Options(template, port=0, aws_port=0, reload=False, console=False, **options), called
    )
