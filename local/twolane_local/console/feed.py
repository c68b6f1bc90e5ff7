"""The journal as a stream of server-sent events, which slows nothing down however much happens.

Nothing subscribes: a few times a second the stream looks at what is new, and sends the newest that
match. So an emulator under load pays for what is shown, not for what happens.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING

from twolane_local.console import redact
from twolane_local.quick_json import utf8

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from twolane_local.console.filters import Filter
    from twolane_local.journal import Event, Journal

#: Seconds between two looks, and the most events in one answer.
EVERY_S, MOST = 0.25, 200
#: The same where more happens than can be shown: nobody reads it, and it costs the emulator time.
CROWDED_S, CROWDED = 1.0, 50
#: How many events one look reads: what is beyond went by too fast for anyone.
LOOK = 2_000
#: A comment keeps the connection open where nothing happens.
KEEP_ALIVE_S = 15.0


async def stream(
    journal: Journal, wanted: Filter, after: int, closing: asyncio.Event
) -> AsyncIterator[bytes]:
    """Chunks of the stream, until ``closing`` is set."""
    quiet_s = 0.0
    pause_s = EVERY_S
    yield b": twolane\n\n"
    while not closing.is_set():
        last = journal.last
        crowded = last - after > MOST * pause_s / EVERY_S
        pause_s = CROWDED_S if crowded else EVERY_S
        if last > after:
            chunk = _chunk(journal, wanted, after, last, CROWDED if crowded else MOST)
            after = last
            if chunk is not None:
                quiet_s = 0.0
                yield chunk
        quiet_s += pause_s
        if quiet_s >= KEEP_ALIVE_S:
            quiet_s = 0.0
            yield b": still here\n\n"
        try:
            async with asyncio.timeout(pause_s):
                await closing.wait()
        except TimeoutError:
            continue


def _chunk(journal: Journal, wanted: Filter, after: int, last: int, most: int) -> bytes | None:
    """One event of the stream, or nothing where nothing matches."""
    skipped = max(0, last - after - LOOK)
    found: deque[Event] = deque(maxlen=most)
    for event in journal.since(max(after, last - LOOK)):
        if wanted.matches(event):
            skipped += len(found) == most
            found.append(event)
    if not found and not skipped:
        return None
    data = {"events": [redact.event(each) for each in found], "skipped": skipped, "last": last}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), default=str)
    return utf8(f"id: {last}\ndata: {text}\n\n")
