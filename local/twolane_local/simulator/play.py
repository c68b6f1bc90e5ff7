"""One run of a schedule: users and faults at their times, then quiet, then the count."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.faults.queues import task_id_of
from twolane_local.simulator.demo import http_event
from twolane_local.simulator.invariants import Violation, violations
from twolane_local.simulator.world import DEAD, QUEUE, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twolane_local.aws.invocation import Invocation
    from twolane_local.simulator.application import Application
    from twolane_local.simulator.facts import History
    from twolane_local.simulator.schedule import Schedule, Step

#: After the faults: so many ticks make up for what was missed.
_TICKS_AFTER_S = 130.0
_LOOK_EVERY_S = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a run went. ``digest`` is the same for two runs that went the same way."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    history: History
    digest: str
    fired: dict[str, int]


def play(application: Application, schedule: Schedule) -> Outcome:
    """Run a schedule from an empty system to its rest."""
    world = World(application, schedule.seed)
    player = _Player(application, schedule, world)
    with application.watched(world):
        history = world.run(player.script)
    return Outcome(
        schedule,
        tuple(violations(history, application.bounds)),
        history,
        digest(history),
        player.fired,
    )


def digest(history: History, *, leave_out: Sequence[str] = ("log",)) -> str:
    """A short text that two equal histories have in common, whatever their ids; facts of some kinds
    are left out.
    """
    names: dict[str | None, int] = {}

    def number(name: str | None) -> int:
        return names.setdefault(name, len(names))

    shape = [
        (round(fact.at, 6), fact.kind, number(fact.task), number(fact.message), fact.queue)
        for fact in history
        if fact.kind not in leave_out
    ]
    return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]


class _Player:
    def __init__(self, application: Application, schedule: Schedule, world: World) -> None:
        self._application, self._schedule, self._world = application, schedule, world
        self._accepted: list[str] = []
        self.fired: dict[str, int] = {}

    async def script(self, world: World) -> None:
        doing = [asyncio.ensure_future(self._later(step)) for step in self._schedule.steps]
        for armed in self._schedule.faults:
            world.loop.call_later(armed.at, world.faults.arm, armed.fault)
        await world.clock.sleep(self._schedule.length_s)
        await asyncio.gather(*doing)
        for each in world.faults.active():
            self.fired[each["name"]] = self.fired.get(each["name"], 0) + each["fired"]
        world.faults.clear()
        world.note("faults.ended")
        await world.clock.sleep(_TICKS_AFTER_S)
        world.stop_schedules()
        # What was due before beat's first tick that came through is nobody's.
        ticks = world.history.of("tick")
        begin = ticks[0].at if ticks else world.clock.time()
        for slot in self._application.slots(begin, world.clock.time()):
            world.note("slot.due", task=slot.task, entry=slot.entry, slot=slot.at, name=slot.name)
        await self._drain()
        count(world)

    async def _later(self, step: Step) -> None:
        await self._world.clock.sleep(step.at)
        await self._do(step)

    async def _do(self, step: Step) -> None:
        about = step.about
        match step.action:
            case "notify":
                await self._post("/notify", {"email": about["email"], "message": "hello"})
            case "defer":
                await self._post(
                    "/notify/deferred",
                    {"email": about["email"], "message": "hello", "delay_seconds": about["delay"]},
                )
            case "campaign":
                await self._post("/campaigns", {"recipients": about["emails"], "message": "hello"})
            case "import":
                rows = "\n".join(f"user{number}@example.com" for number in range(about["rows"]))
                await self._post("/imports", f"email\n{rows}\n")
            case "revoke":
                await self._revoke(about["number"])

    async def _post(self, path: str, body: Any) -> None:
        text, kind = (body, "text/csv") if isinstance(body, str) else (json.dumps(body), "")
        event = http_event("POST", path, text, kind or "application/json")
        try:
            answer = await self._world.invoker.invoke("api", json.dumps(event).encode())
        except Exception as refused:  # noqa: BLE001 - the gateway's 429 or 503: nothing accepted
            self._world.note("request.refused", where=path, error=repr(refused))
            return
        task = _accepted(answer)
        self._world.note("request.answered", where=path, task=task, status=_status(answer))
        if task is not None:
            self._accepted.append(task)
            if path != "/campaigns":  # that is the id of the report, which waits for the others
                self._world.note("enqueue.acknowledged", task=task)

    async def _revoke(self, number: int) -> None:
        if not self._accepted:
            return
        task = self._accepted[number % len(self._accepted)]
        await self._world.operate(lambda: self._application.celery.control.revoke(task))

    async def _drain(self) -> None:
        world = self._world
        bound = world.clock.time() + self._application.bounds.drain_s
        while world.clock.time() < bound and (
            len(world.queues.refreshed(QUEUE)) or world.functions.at_work
        ):
            await world.clock.sleep(_LOOK_EVERY_S)


def count(world: World) -> None:
    """Note what is left on the queues: the last facts of a run."""
    taken = {fact.message: fact.task for fact in world.history.of("body.taken")}
    for queue, kind in ((DEAD, "dead.letter"), (QUEUE, "left.over")):
        for entry in world.queues.refreshed(queue):
            message = entry.message
            world.note(
                kind, message=message.id, queue=queue, body=message.body,
                task=taken.get(message.id) or task_id_of(message.body),
            )  # fmt: skip
    world.note("run.ended")


def _status(answer: Invocation) -> int | None:
    if answer.error is not None:
        return None
    return int(json.loads(answer.payload)["statusCode"])


def _accepted(answer: Invocation) -> str | None:
    """The task id of a 202."""
    if _status(answer) != 202:
        return None
    return str(json.loads(json.loads(answer.payload)["body"])["id"])
