"""``/api/journal``, ``/api/requests``, ``/api/trace`` and ``/api/why``: the journal's routes."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from twolane_local.console.requests import Json, ProblemError, int_parameter
from twolane_local.console.state import snapshot
from twolane_local.http.json_text import utf8
from twolane_local.journal import redact
from twolane_local.journal.filters import from_query
from twolane_local.journal.json_shapes import trace_as_json
from twolane_local.journal.related_events import collect, resolve
from twolane_local.journal.summaries import summaries
from twolane_local.journal.trace import trace
from twolane_local.journal.why import why

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from twolane_local.console.server import Parts
    from twolane_local.journal import Event, Journal
    from twolane_local.journal.filters import Filter


#: The most events in one answer of ``GET journal``.
MOST = 2_000
#: The stream's seconds between two chunks, and the most events in one.
EVERY_S, MOST_WAITING = 0.25, 200
#: The same if there are more events than anyone can read: showing them would slow the emulator.
CROWDED_S, CROWDED = 1.0, 50
#: The most events that are read for one chunk; older ones count as skipped.
LOOK = 2_000
#: After so many seconds without events, a comment keeps the connection open.
KEEP_ALIVE_S = 15.0


async def stream(
    journal: Journal, wanted: Filter, after: int, closing: asyncio.Event
) -> AsyncIterator[bytes]:
    """Yield chunks of server-sent events, until ``closing`` is set."""
    quiet_s = 0.0
    pause_s = EVERY_S
    yield b": twolane\n\n"
    while not closing.is_set():
        last = journal.last
        crowded = last - after > MOST_WAITING * pause_s / EVERY_S
        pause_s = CROWDED_S if crowded else EVERY_S
        if last > after:
            chunk = _chunk(journal, wanted, after, last, CROWDED if crowded else MOST_WAITING)
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
    """Return one server-sent event, or ``None`` if no event matches."""
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


class JournalRoutes:
    """Long reads of the journal run on a thread, so that the emulator goes on."""

    def __init__(self, parts: Parts, closing: asyncio.Event) -> None:
        self._parts = parts
        self._closing = closing
        self.routes = [
            Route("/journal", self.journal),
            Route("/journal/stream", self.stream),
            Route("/journal/{seq:int}", self.event),
            Route("/requests", self.requests),
            Route("/trace/{id}", self.trace),
            Route("/why/{id}", self.why),
        ]

    async def journal(self, request: Request) -> Response:
        """Return matching events: with ``after`` the first ones, without it the latest."""
        query = request.query_params
        limit = int_parameter(query, "limit", 200, MOST)
        events = tuple(self._parts.journal)
        page, more = await asyncio.to_thread(
            _page, events, from_query(query), int_parameter(query, "after", -1),
            int_parameter(query, "before", 0), limit,
        )  # fmt: skip
        content = query.get("content") == "1"
        return Json(
            {
                "events": [redact.event(event, content=content) for event in page],
                "first": events[0].seq if events else 0,
                "last": self._parts.journal.last,
                "more": more,
            }
        )

    async def event(self, request: Request) -> Response:
        seq: int = request.path_params["seq"]
        found = next(islice(self._parts.journal.since(seq - 1), 1), None)
        if found is None or found.seq != seq:
            raise ProblemError(404, f"the journal does not hold event {seq}")
        return Json(redact.event(found, content=True))

    async def stream(self, request: Request) -> Response:
        """Stream server-sent events from now on, or after ``after`` or ``Last-Event-ID``."""
        query = request.query_params
        again = request.headers.get("last-event-id", "")
        after = int_parameter(query, "after", self._parts.journal.last)
        after = int(again) if again.isdigit() else after
        chunks = stream(self._parts.journal, from_query(query), after, self._closing)
        return StreamingResponse(
            chunks, media_type="text/event-stream", headers={"cache-control": "no-store"}
        )

    async def requests(self, request: Request) -> Response:
        """List the latest requests, ticks and direct invocations."""
        query = request.query_params
        found = await asyncio.to_thread(
            summaries, tuple(self._parts.journal), from_query(query),
            limit=int_parameter(query, "limit", 50, 500), before=int_parameter(query, "before", 0),
        )  # fmt: skip
        return Json({"requests": [each.as_dict() for each in found]})

    async def trace(self, request: Request) -> Response:
        journal, now = self._parts.journal, self._parts.clock.time()
        identity = request.path_params["id"]
        found = await asyncio.to_thread(trace, tuple(journal), identity, now=now)
        return Json(await asyncio.to_thread(trace_as_json, found))

    async def why(self, request: Request) -> Response:
        """Explain why an id does not move."""
        parts, identity = self._parts, request.path_params["id"]
        events = tuple(parts.journal)
        messages = await asyncio.to_thread(_messages, events, identity)
        now = snapshot(
            parts.queues, parts.mappings, parts.functions, messages=messages,
            paused=bool(getattr(parts.clock, "paused", False)),
        )  # fmt: skip
        answer = await asyncio.to_thread(why, events, identity, now)
        return Json(answer.as_dict())


def _messages(events: tuple[Event, ...], identity: str) -> list[str]:
    whole, _ = resolve(events, identity)
    return list(collect(events, whole).messages)


def _page(
    events: tuple[Event, ...], wanted: Filter, after: int, before: int, limit: int
) -> tuple[list[Any], bool]:
    """Return the first matching events after ``after``, or else the last, and if there are more."""
    forward = after >= 0
    found: list[Event] = []
    for event in events if forward else reversed(events):
        if (forward and event.seq <= after) or (before and event.seq >= before):
            continue
        if wanted.matches(event):
            if len(found) == limit:
                return (found if forward else found[::-1]), True
            found.append(event)
    return (found if forward else found[::-1]), False
