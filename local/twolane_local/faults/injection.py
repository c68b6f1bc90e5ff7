"""Faults that are armed: each counts, draws from its own seed, and journals that it happened."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.clock import Clock
    from twolane_local.journal import Journal


#: Where a fault can be made: in virtual time (the plugin and the simulator), in a running emulator
#: (by the control API), and with real processes, signals and sockets
#: (``twolane_local.testing.processes``).
VIRTUAL, EMULATOR, LIVE = "virtual", "emulator", "live"


class FaultError(LocalError):
    """No such fault, or a parameter that it does not have."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One value of a fault: its default also tells its type."""

    name: str
    default: str | float | int | None
    text: str


#: Every fault has these.
COMMON = (
    Parameter("target", "*", "which function, queue or key it is for; * and ? are wildcards"),
    Parameter("count", 1, "how often it happens; 0: each time"),
    Parameter("skip", 0, "how many occasions pass before it happens"),
    Parameter("chance", 1.0, "the share of occasions on which it happens, drawn from the seed"),
    Parameter("for_s", 0.0, "how many seconds it lasts from its first occasion; 0: no limit"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue. ``point`` is the seam at which it happens."""

    name: str
    text: str
    point: str
    own: tuple[Parameter, ...] = ()
    where: tuple[str, ...] = (VIRTUAL, EMULATOR)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All that can be set, its own first."""
        return (*self.own, *COMMON)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for a form."""
        return {
            "name": self.name,
            "text": self.text,
            "point": self.point,
            "where": list(self.where),
            "parameters": [asdict(parameter) for parameter in self.parameters],
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to inject: a kind's name, what it is for, how often, and its own parameters."""

    name: str
    seed: int = 0
    target: str = "*"
    count: int = 1
    skip: int = 0
    chance: float = 1.0
    for_s: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; ``fault_of`` reads them again."""
        return {**asdict(self), "parameters": dict(self.parameters)}


def fault_of(value: Mapping[str, Any]) -> Fault:
    """The fault that ``Fault.as_dict`` wrote."""
    return Fault(**value)


_INSIDE = (VIRTUAL, LIVE)
_BOTH = (VIRTUAL, EMULATOR)
_AFTER_S = Parameter("after_s", 1.0, "after how many seconds")

_KINDS = (
    # The execution environment, as a whole.
    Kind("environment.killed-at-start", "The environment dies before its handler is called: "
         "nothing of the event has run.", "invoke", where=(VIRTUAL, EMULATOR, LIVE)),
    Kind("environment.killed-before-task", "The environment dies when the task's code is about to "
         "run: its lease is taken, nothing has happened.", "task.begins", where=_INSIDE),
    Kind("environment.killed-during-task", "The environment dies inside the task, before its "
         "effect.", "effect.before", where=_INSIDE),
    Kind("environment.killed-after-effect", "The environment dies after the task's effect and "
         "before its result is stored.", "effect.after", where=_INSIDE),
    Kind("environment.killed-after-result", "The environment dies after the result is stored and "
         "before the mapping deletes the message.", "result.stored", where=_INSIDE),
    Kind("environment.killed-after-task", "The environment dies once its handler has returned: "
         "the mapping never hears the answer.", "answer", where=(VIRTUAL, EMULATOR)),
    Kind("environment.frozen", "The environment stands still inside the task, beyond the "
         "visibility timeout, and then goes on.", "effect.before",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.frozen-after-effect", "The environment stands still between the task's "
         "effect and its result, beyond the visibility timeout, and then goes on.", "effect.after",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.timeout", "The task hangs until Lambda's function timeout.", "effect.before",
         (Parameter("hang_s", 600.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.out-of-memory", "The environment is killed for using too much memory, "
         "inside the task.", "effect.before", where=_INSIDE),
    Kind("task.memory-error", "Python cannot allocate, and the task raises MemoryError.",
         "effect.before", where=_INSIDE),
    Kind("task.slow", "The task takes longer.", "effect.before",
         (Parameter("seconds", 5.0, "by how many seconds"),), where=_INSIDE),
    # The invocation and its answer.
    Kind("invocation.throttled", "Lambda has no concurrency left for the function.", "invoke",
         where=_BOTH),
    Kind("invocation.slow", "The invocation begins late.", "invoke", (_AFTER_S,), where=_BOTH),
    Kind("response.partial-batch", "The answer names a message as failed whose work was done.",
         "answer.batch", where=_BOTH),
    Kind("response.malformed", "The answer names a message that is not of the batch: the whole "
         "batch counts as failed.", "answer.batch", where=_BOTH),
    Kind("response.not-json", "The answer is not JSON.", "answer.batch", where=_BOTH),
    # SQS.
    Kind("queue.duplicate-delivery", "SQS says that a message is deleted, and delivers it again.",
         "delete", (_AFTER_S,), where=_BOTH),
    Kind("queue.two-deliveries-at-once", "SQS delivers a message a second time while the first "
         "delivery is under way.", "receive", where=_BOTH),
    Kind("queue.reordered", "A message is overtaken by those sent after it.", "send",
         (Parameter("hold_s", 5.0, "for how many seconds"),), where=_BOTH),
    Kind("send.failed", "SQS does not take a message.", "send", where=_BOTH),
    Kind("send.reply-lost", "SQS takes a message, and the sender does not hear of it.", "send",
         where=_BOTH),
    Kind("receive.failed", "SQS does not answer the mapping's poll.", "receive", where=_BOTH),
    Kind("receive.reply-lost", "Messages are received, and the mapping does not get them.",
         "receive", where=_BOTH),
    Kind("delete.failed", "SQS does not delete a message whose work is done.", "delete",
         where=_BOTH),
    Kind("delete.reply-lost", "SQS deletes a message, and the mapping does not hear of it.",
         "delete", where=_BOTH),
    Kind("visibility.failed", "SQS does not change a message's visibility timeout.", "visibility",
         where=_BOTH),
    # The message.
    Kind("message.unknown-task", "A deploy has removed the task that a message names.", "send",
         where=_BOTH),
    Kind("message.changed-signature", "A deploy has changed the signature of the task that a "
         "message names.", "send", where=_BOTH),
    Kind("message.poison-body", "A message's body is no task at all.", "send", where=_BOTH),
    Kind("message.truncated", "A message's body ends in the middle.", "send", where=_BOTH),
    Kind("message.at-the-limit", "A message is as big as SQS takes: 1 MiB.", "send", where=_BOTH),
    # The result store.
    Kind("store.down", "The result store does not answer.", "store", where=(VIRTUAL, LIVE)),
    Kind("store.slow", "The result store answers late.", "store",
         (Parameter("seconds", 1.0, "by how many seconds"),), where=(VIRTUAL, LIVE)),
    Kind("store.reply-lost", "The result store does what it is told, and its answer is lost.",
         "store.done", where=(VIRTUAL, LIVE)),
    Kind("store.lost-write", "The result store fails over and has lost a write that it had "
         "acknowledged.", "store.write", where=(VIRTUAL,)),
    # Time.
    Kind("clock.skewed", "The environment's clock is wrong.", "clock",
         (Parameter("seconds", 30.0, "by how many seconds; negative: behind"),), where=(VIRTUAL,)),
    Kind("tick.doubled", "A schedule fires twice.", "tick", where=_BOTH),
    Kind("tick.missed", "A schedule does not fire.", "tick", where=_BOTH),
    Kind("tick.late", "A schedule fires late.", "tick", (_AFTER_S,), where=_BOTH),
)  # fmt: skip

#: Name → kind.
CATALOGUE: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}


_NOTHING: Mapping[str, str] = {}
_COMMON = {field.name for field in fields(Fault)} - {"name", "parameters"}


class Injector:
    """One armed fault. ``occasions`` were met, on ``fired`` of them it happened."""

    def __init__(self, identity: str, fault: Fault) -> None:
        self.id, self.fault = identity, fault
        self.kind = CATALOGUE[fault.name]
        self.occasions = self.fired = 0
        # A seed of its own, so that arming one more fault does not change the others.
        self._rng = random.Random(f"{fault.name} {fault.seed}")  # noqa: S311 - no secret
        self._began: float | None = None

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as it shall."""
        return bool(self.fault.count) and self.fired >= self.fault.count

    def meets(self, target: str, now: float) -> bool:
        """Whether it happens on this occasion; counted either way."""
        if self.spent or not fnmatchcase(target, self.fault.target):
            return False
        self.occasions += 1
        if self.occasions <= self.fault.skip:
            return False
        if self._began is None:
            self._began = now
        if self.fault.for_s and now - self._began > self.fault.for_s:
            return False
        return self.fault.chance >= 1 or self._rng.random() < self.fault.chance

    def value(self, name: str) -> Any:
        """A parameter of its own, or its default."""
        for parameter in self.kind.own:
            if parameter.name == name:
                return self.fault.parameters.get(name, parameter.default)
        raise KeyError(name)

    def draw(self) -> random.Random:
        """For what a fault has to choose."""
        return self._rng

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for whoever shows it."""
        common = {name: getattr(self.fault, name) for name in sorted(_COMMON - {"seed"})}
        return {
            "id": self.id,
            "name": self.fault.name,
            "seed": self.fault.seed,
            "parameters": {**self.fault.parameters, **common},
            "fired": self.fired,
        }


class Faults:
    """All that are armed. Seams ask ``at(point, target)`` which ones happen now."""

    def __init__(
        self, journal: Journal, clock: Clock, unmounted: Mapping[str, str] = _NOTHING
    ) -> None:
        """``unmounted`` are the points that nobody asks here, each with where it is asked."""
        #: Where each that happens is told.
        self.journal = journal
        self._clock, self._unmounted = clock, unmounted
        self._armed: list[Injector] = []
        self._points: dict[str, list[Injector]] = {}
        self._count = 0

    def arm(self, fault: Fault) -> Injector:
        """Have it happen. Raises ``FaultError`` for an unknown name or parameter."""
        kind = CATALOGUE.get(fault.name)
        if kind is None:
            raise FaultError(
                f"there is no fault named {fault.name!r}; there are: {', '.join(CATALOGUE)}"
            )
        unknown = fault.parameters.keys() - {parameter.name for parameter in kind.own}
        if unknown:
            raise FaultError(
                f"{fault.name} has no parameter {', '.join(sorted(unknown))}; it has: "
                f"{', '.join(parameter.name for parameter in kind.parameters)}"
            )
        if kind.point in self._unmounted:
            raise FaultError(
                f"{fault.name} cannot happen here; it can with {self._unmounted[kind.point]}"
            )
        self._count += 1
        injector = Injector(str(self._count), fault)
        self._armed.append(injector)
        self._points.setdefault(kind.point, []).append(injector)
        return injector

    def inject(self, name: str, *, seed: int = 0, **parameters: Any) -> str:
        """Arm one by name, common and own parameters mixed; gives its id."""
        common = {key: parameters.pop(key) for key in _COMMON & parameters.keys()}
        return self.arm(Fault(name, seed=seed, parameters=parameters, **common)).id

    def any_at(self, *points: str) -> bool:
        """Whether anything is armed for one of these points."""
        return any(self._points.get(point) for point in points)

    def at(self, point: str, target: str = "", **about: Any) -> Iterable[Injector]:
        """Those that happen here and now; ``about`` goes into the journal with each."""
        armed = self._points.get(point)
        if not armed:
            return ()
        now = self._clock.time()
        return [self._fire(each, target, about) for each in armed if each.meets(target, now)]

    def _fire(self, injector: Injector, target: str, about: dict[str, Any]) -> Injector:
        injector.fired += 1
        fault = injector.fault
        self.journal.record(
            "fault.injected", name=fault.name, seed=fault.seed, id=injector.id, target=target,
            occasion=injector.occasions, **about,
        )  # fmt: skip
        return injector

    def active(self) -> list[dict[str, Any]]:
        """What is armed, as JSON values: id, name, seed, parameters, fired."""
        return [injector.as_dict() for injector in self._armed]

    def clear(self, identity: str | None = None) -> int:
        """Disarm one, or all; tells how many."""
        gone = [each for each in self._armed if identity in (None, each.id)]
        for injector in gone:
            self._armed.remove(injector)
            self._points[injector.kind.point].remove(injector)
        return len(gone)

    def fired(self, name: str) -> int:
        """How often faults of this name happened that are still armed."""
        return sum(each.fired for each in self._armed if each.fault.name == name)
