"""An emulator while a script runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.emulator import Emulator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from twolane_local.model import Options


def run(options: Options, script: Callable[[Emulator], Awaitable[None]]) -> None:
    """Start it, let the script do its work, and stop it, whatever came of that."""

    async def main() -> None:
        emulator = Emulator(options)
        await emulator.start()
        try:
            await script(emulator)
        finally:
            await emulator.stop()

    asyncio.run(main())
