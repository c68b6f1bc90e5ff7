"""``/api/schedules``: the schedules with their next times, beat's entries, and firing one now."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from twolane_local.aws.invocation import TenancyError, ThrottledError, target_of
from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.aws.scheduler.targets import DeliveryError, Firing, deliver, iso
from twolane_local.console.requests import Json, ProblemError, body_of, field

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from twolane_local.aws.scheduler.schedule import Schedule
    from twolane_local.console.server import Parts

#: Beat's entries stay valid for so long: reading them is an invocation, which the journal shows.
_ENTRIES_S = 30.0
#: The number of next times that are shown.
_NEXT = 5


class ScheduleRoutes:
    """The entries of ``beat_schedule`` come from the function that a schedule invokes."""

    def __init__(self, parts: Parts, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._parts = parts
        self._monotonic = monotonic
        self._entries: dict[str, tuple[float, list[Any], str | None]] = {}
        self._lock = asyncio.Lock()
        self.routes = [
            Route("/schedules", self.schedules),
            Route("/schedules/{name:path}/run", self.run, methods=["POST"]),
        ]

    async def schedules(self, _: Request) -> Response:
        """List every schedule with its next times."""
        now = self._parts.clock.time()
        async with self._lock:
            shown = [await self._as_json(schedule, now) for schedule in self._parts.book]
        return Json({"schedules": shown, "now": now})

    async def _as_json(self, schedule: Schedule, now: float) -> dict[str, Any]:
        entries, problem = await self._entries_of(schedule)
        return {
            "name": schedule.name, "group": schedule.group, "source": schedule.source,
            "expression": schedule.text, "timezone": schedule.timezone,
            "enabled": schedule.enabled, "target": schedule.target.arn.rpartition(":")[2],
            "last": self._parts.book.fired(schedule), "next": upcoming(schedule, now),
            "entries": entries, "problem": problem,
        }  # fmt: skip

    async def _entries_of(self, schedule: Schedule) -> tuple[list[Any], str | None]:
        name = target_of(schedule.target.arn).partition(":")[0]
        spec = self._parts.functions.specs.get(name)
        if spec is None or ":lambda:" not in schedule.target.arn or schedule.target.input:
            return [], None
        known = self._entries.get(name)
        if known is None or self._monotonic() - known[0] > _ENTRIES_S:
            known = (self._monotonic(), *await self._read_entries(name))
            self._entries[name] = known
        return known[1], known[2]

    async def _read_entries(self, function: str) -> tuple[list[Any], str | None]:
        """Return the entries and a problem; only a ``BeatHandler`` has entries."""
        try:
            done = await self._parts.functions.invoke(
                function, b'{"twolane": {"list": %d}}' % _NEXT
            )
        except TenancyError as error:
            return [], str(error)
        except ThrottledError:
            return [], f"{function} has no free concurrency, so its entries cannot be read"
        try:
            answer = json.loads(done.payload)
        except ValueError:
            return [], None
        if done.error is not None:
            return [], str(answer.get("errorMessage", "it failed"))
        entries = answer.get("entries") if isinstance(answer, dict) else None
        return (entries if isinstance(entries, list) else []), None

    async def run(self, request: Request) -> Response:
        """Fire a schedule now, as if it were due; with ``entry`` send the task of that entry."""
        wanted, body = request.path_params["name"], await body_of(request)
        found = [
            each for each in self._parts.book if wanted in (each.name, f"{each.group}/{each.name}")
        ]
        if not found:
            names = ", ".join(each.name for each in self._parts.book) or "none"
            raise ProblemError(404, f"there is no schedule named {wanted!r}; there are: {names}")
        schedule = found[0]
        entry = field(body, "entry", str)
        if entry is not None:
            return Json(await self._run_entry(schedule, entry), 201)
        now = self._parts.clock.time()
        self._parts.journal.record(
            "schedule.fired", schedule=schedule.name, time=iso(now), target=schedule.target.arn,
            missed=0, byHand=True,
        )  # fmt: skip
        try:
            await deliver(
                Firing(schedule, now, new_request_id()), self._parts.queues, self._parts.invocations
            )
        except DeliveryError as error:
            raise ProblemError(502, f"{schedule.target.arn} rejected it: {error}") from error
        return Json({"name": schedule.name, "target": schedule.target.arn}, 201)

    async def _run_entry(self, schedule: Schedule, entry: str) -> dict[str, Any]:
        name = target_of(schedule.target.arn).partition(":")[0]
        try:
            done = await self._parts.functions.invoke(
                name, json.dumps({"twolane": {"run": entry}}).encode()
            )
        except (KeyError, ThrottledError, TenancyError) as error:
            raise ProblemError(502, f"{name} cannot be invoked now") from error
        answer = json.loads(done.payload)
        if done.error is not None:
            raise ProblemError(502, str(answer.get("errorMessage", "it failed")))
        self._entries.pop(name, None)
        return {**answer, "requestId": done.request_id}


def upcoming(schedule: Schedule, now: float) -> list[float]:
    """Return the next times at which a schedule is due."""
    found: list[float] = []
    at = now
    while schedule.enabled and len(found) < _NEXT and (due := schedule.after(at)) is not None:
        found.append(due)
        at = due
    return found
