"""Schedules, and their runs: one, told for people; smaller ones that break the same; and many.

A schedule is what users do and what goes wrong, each at its time; drawn from a seed or written. A
run: users and faults at their times, then quiet, then the count.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.faults.injection import Fault
from twolane_local.faults.seams import task_id_of
from twolane_local.testing.simulation.demo import demo, http_event
from twolane_local.testing.simulation.invariants import Violation, violations
from twolane_local.testing.simulation.simulator import DEAD, QUEUE, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from twolane_local.aws.invocation import Invocation
    from twolane_local.testing.simulation.invariants import Fact, History
    from twolane_local.testing.simulation.simulator import Application


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
    world = Simulation(application, schedule.seed)
    player = _Player(application, schedule, world)
    history = world.run(player.script)
    return Outcome(
        schedule,
        tuple(violations(history, application.bounds)),
        history,
        digest(history),
        player.fired,
    )


def digest(history: History, *, leave_out: Sequence[str] = ("log",)) -> str:
    """A short text that equal histories share, whatever their ids; without some kinds of facts."""
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
    def __init__(self, application: Application, schedule: Schedule, world: Simulation) -> None:
        self._application, self._schedule, self._world = application, schedule, world
        self._accepted: list[str] = []
        self.fired: dict[str, int] = {}

    async def script(self, world: Simulation) -> None:
        doing = [asyncio.ensure_future(self._do(step)) for step in self._schedule.steps]
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

    async def _do(self, step: Step) -> None:
        await self._world.clock.sleep(step.at)
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
        while world.clock.time() < bound and (len(world.queues.refreshed(QUEUE)) or world.at_work):
            await world.clock.sleep(_LOOK_EVERY_S)


def count(world: Simulation) -> None:
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


def shrink(application: Application, outcome: Outcome) -> Outcome:
    """Leave out steps and faults, one at a time, for as long as the invariant stays broken."""
    wanted = {each.invariant for each in outcome.violations}
    smaller: Outcome | None = outcome
    while smaller is not None:
        outcome, smaller = smaller, None
        for schedule in _smaller(outcome.schedule):
            tried = play(application, schedule)
            if wanted & {each.invariant for each in tried.violations}:
                smaller = tried
                break
    return outcome


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    for field_name in ("faults", "steps"):
        whole = getattr(schedule, field_name)
        for number in range(len(whole)):
            yield replace(schedule, **{field_name: whole[:number] + whole[number + 1 :]})


_HIDDEN = frozenset({"body", "trace"})


def lines(outcome: Outcome, start: float, *, everything: bool = False) -> Iterator[str]:
    """A readable account; without ``everything``, of the violations' subjects and the faults."""
    schedule = outcome.schedule
    yield f"seed {schedule.seed}"
    for step in schedule.steps:
        yield f"  {step.at:8.2f} s  {step.action} {_values(step.about)}"
    for armed in schedule.faults:
        fault = armed.fault
        yield (
            f"  {armed.at:8.2f} s  ! {fault.name} count={fault.count} skip={fault.skip} "
            f"chance={fault.chance} {_values(fault.parameters)}"
        )
    subjects = {each.subject for each in outcome.violations}
    for fact in outcome.history:
        if everything or fact.kind == "fault.injected" or _about(fact, subjects):
            yield line(fact, start)
    for each in outcome.violations:
        yield f"! {each}"
    if not outcome.violations:
        yield "all invariants hold"
    yield f"digest {outcome.digest}"


def _about(fact: Fact, subjects: set[str]) -> bool:
    texts = (fact.task, fact.message, str(fact.data.get("key", "")))
    return any(text and any(text in subject for subject in subjects) for text in texts)


def line(fact: Fact, start: float) -> str:
    """One step, at its seconds since the start."""
    names = " ".join(name[:8] for name in (fact.task, fact.message) if name is not None)
    where = f" [{fact.where}]" if fact.where else ""
    return (
        f"  {fact.at - start:8.2f} s  {fact.kind:22}{where} {names} {_values(fact.data)}".rstrip()
    )


def _values(values: object) -> str:
    if not isinstance(values, dict) and not hasattr(values, "items"):
        return str(values)
    return " ".join(
        f"{name}={str(value)[:80]}"
        for name, value in values.items()
        if name not in _HIDDEN and value is not None
    )


#: Runs that a process does before it reports and takes the next.
_CHUNK = 20


@dataclass
class Tally:
    """What became of the runs so far."""

    runs: int = 0
    seconds: float = 0.0
    #: Of all processes together.
    cpu_seconds: float = 0.0
    #: Seed → what did not hold.
    violations: dict[int, list[str]] = field(default_factory=dict)
    #: How often each fault happened, and how many effects there were.
    faults: Counter[str] = field(default_factory=Counter)
    effects: int = 0
    tasks: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "runs": self.runs,
            "seconds": round(self.seconds, 2),
            "cpuSeconds": round(self.cpu_seconds, 2),
            "violations": {str(seed): told for seed, told in sorted(self.violations.items())},
            "faults": dict(sorted(self.faults.items())),
            "effects": self.effects,
            "tasks": self.tasks,
        }

    def add(self, other: Tally) -> None:
        """Count another one's runs as well; the time is one's own."""
        self.runs += other.runs
        self.cpu_seconds += other.cpu_seconds
        self.violations |= other.violations
        self.faults.update(other.faults)
        self.effects += other.effects
        self.tasks += other.tasks


def run_seeds(seeds: Iterable[int], root: Path | None = None) -> Tally:
    with demo(root) as application:
        return _tally(application, seeds)


def run_many(
    first: int, runs: int, jobs: int, progress: Callable[[Tally], object], root: Path | None = None
) -> Tally:
    """Seeds ``first`` to ``first + runs - 1`` on ``jobs`` processes."""
    tally = Tally()
    began = time.monotonic()
    for part in _parts(first, runs, jobs, root):
        tally.add(part)
        tally.seconds = time.monotonic() - began
        progress(tally)
    tally.seconds = time.monotonic() - began
    return tally


def _parts(first: int, runs: int, jobs: int, root: Path | None) -> Iterator[Tally]:
    chunks = [
        range(start, min(start + _CHUNK, first + runs))
        for start in range(first, first + runs, _CHUNK)
    ]
    if jobs == 1:
        for chunk in chunks:
            yield run_seeds(chunk, root)
        return
    # Spawned, not forked: a fork would share locks with threads that it has not.
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, initializer=_start, initargs=(root,)) as pool:
        yield from pool.imap_unordered(_run_chunk, chunks)


#: What a child process keeps between its chunks.
_child: dict[str, Any] = {}


def _start(root: Path | None) -> None:
    _child["context"] = demo(root)
    _child["application"] = _child["context"].__enter__()


def _run_chunk(seeds: range) -> Tally:
    return _tally(_child["application"], seeds)


def _tally(application: Any, seeds: Iterable[int]) -> Tally:
    tally = Tally()
    began = time.process_time()
    for seed in seeds:
        outcome = play(application, draw(seed))
        tally.runs += 1
        tally.faults.update(outcome.fired)
        tally.effects += len(outcome.history.of("effect.committed"))
        tally.tasks += len({fact.task for fact in outcome.history.of("body.taken")})
        if outcome.violations:
            tally.violations[seed] = [str(each) for each in outcome.violations]
    tally.cpu_seconds = time.process_time() - began
    return tally


#: How long users are active, in seconds, and how long faults may begin.
LENGTH_S = 420.0
_WHO = ("anna@example.com", "flaky@simulator.example.com", "down@simulator.example.com",
        "bounce@simulator.example.com", "ben@example.com")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """``notify``, ``defer``, ``campaign``, ``import`` or ``revoke``; seconds from the start."""

    at: float
    action: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Armed:
    """From ``at`` seconds on, this can happen."""

    at: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of one run: the seed also gives ids, latencies and jitter."""

    seed: int
    steps: tuple[Step, ...] = ()
    faults: tuple[Armed, ...] = ()
    length_s: float = LENGTH_S

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; ``schedule_of`` reads them again."""
        return {
            "seed": self.seed,
            "length_s": self.length_s,
            "steps": [asdict(step) for step in self.steps],
            "faults": [{"at": each.at, "fault": each.fault.as_dict()} for each in self.faults],
        }


def schedule_of(value: Mapping[str, Any]) -> Schedule:
    return Schedule(
        value["seed"],
        tuple(Step(**step) for step in value["steps"]),
        tuple(Armed(each["at"], Fault(**each["fault"])) for each in value["faults"]),
        value["length_s"],
    )


def draw(seed: int) -> Schedule:
    rng = random.Random(f"schedule {seed}")  # noqa: S311 - repeatable, no secret
    steps = sorted(
        (_step(rng) for _ in range(rng.randint(1, 6))), key=lambda step: (step.at, step.action)
    )
    faults = tuple(Armed(_time(rng), _fault(rng)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))))
    return Schedule(seed, tuple(steps), faults)


def _time(rng: random.Random) -> float:
    # Often early, and often at the same moment: races need company.
    return rng.choice((0.0, 0.0, 1.0, 5.0, 60.0, 170.0, round(rng.uniform(0, LENGTH_S - 60), 1)))


def _step(rng: random.Random) -> Step:
    at = _time(rng)
    match rng.choice(("notify", "defer", "defer", "defer", "campaign", "import", "revoke")):
        case "notify":
            return Step(at, "notify", {"email": rng.choice(_WHO)})
        case "defer":
            delay = rng.choice((0, 0, 0, 0, 1, 30, 200, 1000))
            return Step(at, "defer", {"email": rng.choice(_WHO), "delay": delay})
        case "campaign":
            return Step(at, "campaign", {"emails": rng.choices(_WHO, k=rng.randint(1, 3))})
        case "import":
            return Step(at, "import", {"rows": rng.randint(1, 5)})
        case _:
            return Step(at + 2, "revoke", {"number": rng.randint(0, 3)})


def _fault(rng: random.Random) -> Fault:
    from twolane_local.faults.injection import CATALOGUE

    name = rng.choice(tuple(CATALOGUE))
    own: dict[str, Any] = {}
    if name.startswith("environment.frozen"):
        own["freeze_s"] = rng.choice((20.0, 100.0, 400.0, 700.0))
    if name == "clock.skewed":  # leases allow for clocks that are a second apart
        own["seconds"] = rng.choice((-0.9, -0.5, 0.5, 0.9))
    if name in {"queue.duplicate-delivery", "tick.late"}:
        own["after_s"] = rng.choice((0, 1, 10, 200))
    if name in {"task.slow", "store.slow"}:
        own["seconds"] = rng.choice((0.5, 2.0, 5.0, 20.0))
    return Fault(
        name,
        seed=rng.randrange(1 << 30),
        count=rng.choice((1, 1, 1, 2, 3, 8)),
        skip=rng.choice((0, 0, 0, 1, 2, 5)),
        chance=rng.choice((1.0, 1.0, 0.5)),
        parameters=own,
    )
