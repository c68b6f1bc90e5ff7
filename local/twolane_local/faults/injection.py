"""The catalogue of faults, and the armed faults: each counts, and has a seed of its own."""

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

#: The places where a fault can happen: in virtual time (the plugin and the simulator), in a running
#: emulator (by the control API), and with real processes (``twolane_local.testing.processes``).
VIRTUAL, EMULATOR, LIVE = "virtual", "emulator", "live"


class FaultError(LocalError):
    """The fault is unknown, or one of its parameters is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a fault; its default also gives its type."""

    name: str
    default: str | float | int | None
    text: str


#: The parameters that every fault has.
COMMON = (
    Parameter("target", "*", "which function, queue or key it is for; * and ? are wildcards"),
    Parameter("count", 1, "how often it happens; 0: each time"),
    Parameter("skip", 0, "how many occasions pass before it happens"),
    Parameter("chance", 1.0, "the share of occasions on which it happens, drawn from the seed"),
    Parameter("for_s", 0.0, "how many seconds it lasts from its first occasion; 0: no limit"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue; the fault happens at ``point``."""

    name: str
    text: str
    point: str
    own: tuple[Parameter, ...] = ()
    where: tuple[str, ...] = (VIRTUAL, EMULATOR)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters, its own first."""
        return (*self.own, *COMMON)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "text": self.text,
            "point": self.point,
            "where": list(self.where),
            "parameters": [asdict(parameter) for parameter in self.parameters],
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to inject: the name of its kind, its target, how often, and its own parameters."""

    name: str
    seed: int = 0
    target: str = "*"
    count: int = 1
    skip: int = 0
    chance: float = 1.0
    for_s: float = 0.0
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, the keyword arguments of ``Fault``."""
        return {**asdict(self), "parameters": dict(self.parameters)}


_INSIDE = (VIRTUAL, LIVE)
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
         "the mapping never gets the answer.", "answer"),
    Kind("environment.frozen", "The environment freezes inside the task, beyond the "
         "visibility timeout, and then goes on.", "effect.before",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.frozen-after-effect", "The environment freezes between the task's "
         "effect and its result, beyond the visibility timeout, and then goes on.", "effect.after",
         (Parameter("freeze_s", 400.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.timeout", "The task hangs until Lambda's function timeout.", "effect.before",
         (Parameter("hang_s", 600.0, "for how many seconds"),), where=_INSIDE),
    Kind("environment.out-of-memory", "The environment is killed for using too much memory, "
         "inside the task.", "effect.before", where=_INSIDE),
    Kind("task.memory-error", "Python cannot allocate memory, and the task raises MemoryError.",
         "effect.before", where=_INSIDE),
    Kind("task.slow", "The task takes longer.", "effect.before",
         (Parameter("seconds", 5.0, "by how many seconds"),), where=_INSIDE),
    # The invocation and its answer.
    Kind("invocation.throttled", "Lambda has no concurrency left for the function.", "invoke"),
    Kind("invocation.slow", "The invocation begins late.", "invoke", (_AFTER_S,)),
    Kind("response.partial-batch", "The answer names a message as failed whose work was done.",
         "answer.batch"),
    Kind("response.malformed", "The answer names a message that is not of the batch: the whole "
         "batch counts as failed.", "answer.batch"),
    Kind("response.not-json", "The answer is not JSON.", "answer.batch"),
    # SQS.
    Kind("queue.duplicate-delivery", "SQS says that a message is deleted, and delivers it again.",
         "delete", (_AFTER_S,)),
    Kind("queue.two-deliveries-at-once", "SQS delivers a message a second time while the first "
         "delivery is under way.", "receive"),
    Kind("queue.reordered", "A message is overtaken by those sent after it.", "send",
         (Parameter("hold_s", 5.0, "for how many seconds"),)),
    Kind("send.failed", "SQS does not take a message.", "send"),
    Kind("send.reply-lost", "SQS takes a message, and the sender does not get the answer.", "send"),
    Kind("receive.failed", "SQS does not answer the mapping's poll.", "receive"),
    Kind("receive.reply-lost", "Messages are received, and the mapping does not get them.",
         "receive"),
    Kind("delete.failed", "SQS does not delete a message whose work is done.", "delete"),
    Kind("delete.reply-lost", "SQS deletes a message, and the mapping does not get the answer.",
         "delete"),
    Kind("visibility.failed", "SQS does not change a message's visibility timeout.", "visibility"),
    # The message.
    Kind("message.unknown-task", "A deploy has removed the task that a message names.", "send"),
    Kind("message.changed-signature", "A deploy has changed the signature of the task that a "
         "message names.", "send"),
    Kind("message.poison-body", "A message's body is not a task.", "send"),
    Kind("message.truncated", "A message's body ends in the middle.", "send"),
    Kind("message.at-the-limit", "A message is as big as SQS takes: 1 MiB.", "send"),
    # The result store.
    Kind("store.down", "The result store does not answer.", "store", where=_INSIDE),
    Kind("store.slow", "The result store answers late.", "store",
         (Parameter("seconds", 1.0, "by how many seconds"),), where=_INSIDE),
    Kind("store.reply-lost", "The result store runs the command, and its answer is lost.",
         "store.done", where=_INSIDE),
    Kind("store.lost-write", "The result store fails over and has lost a write that it had "
         "acknowledged.", "store.write", where=(VIRTUAL,)),
    # Time.
    Kind("clock.skewed", "The environment's clock is wrong.", "clock",
         (Parameter("seconds", 30.0, "by how many seconds; negative: behind"),), where=(VIRTUAL,)),
    Kind("tick.doubled", "A schedule fires twice.", "tick"),
    Kind("tick.missed", "A schedule does not fire.", "tick"),
    Kind("tick.late", "A schedule fires late.", "tick", (_AFTER_S,)),
)  # fmt: skip

#: Name → kind.
CATALOGUE: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}
_NOTHING: Mapping[str, str] = {}
_COMMON = {field.name for field in fields(Fault)} - {"name", "parameters"}


class ArmedFault:
    """One armed fault. It happened on ``fired`` of its ``occasions``."""

    def __init__(self, identity: str, fault: Fault) -> None:
        self.id, self.fault, self.name = identity, fault, fault.name
        self.kind = CATALOGUE[fault.name]
        self.occasions = self.fired = 0
        # A seed of its own, so that arming one more fault does not change the others.
        self.rng = random.Random(f"{fault.name} {fault.seed}")  # noqa: S311 - no secret
        self._began: float | None = None

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as it should."""
        return bool(self.fault.count) and self.fired >= self.fault.count

    def meets(self, target: str, now: float) -> bool:
        """Count the occasion, and return whether the fault happens on it."""
        if self.spent or not fnmatchcase(target, self.fault.target):
            return False
        self.occasions += 1
        if self.occasions <= self.fault.skip:
            return False
        if self._began is None:
            self._began = now
        if self.fault.for_s and now - self._began > self.fault.for_s:
            return False
        return self.fault.chance >= 1 or self.rng.random() < self.fault.chance

    def value(self, name: str) -> Any:
        """Return one of its own parameters, or its default."""
        for parameter in self.kind.own:
            if parameter.name == name:
                return self.fault.parameters.get(name, parameter.default)
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        common = {name: getattr(self.fault, name) for name in sorted(_COMMON - {"seed"})}
        return {
            "id": self.id,
            "name": self.fault.name,
            "seed": self.fault.seed,
            "parameters": {**self.fault.parameters, **common},
            "fired": self.fired,
        }


class Faults:
    """The armed faults; ``at(point, target)`` returns those that happen now."""

    def __init__(
        self, journal: Journal, clock: Clock, unavailable: Mapping[str, str] = _NOTHING
    ) -> None:
        """``unavailable`` are the points where faults cannot happen here, and where they can."""
        self.journal = journal
        self._clock, self._unavailable = clock, unavailable
        self._armed: list[ArmedFault] = []
        #: True while nothing is armed: then the seams need not ask.
        self.idle = True
        self._points: dict[str, list[ArmedFault]] = {}
        self._count = 0

    def arm(self, fault: Fault) -> ArmedFault:
        """Arm a fault. Raises ``FaultError`` for an unknown name or parameter."""
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
        if kind.point in self._unavailable:
            raise FaultError(
                f"{fault.name} cannot happen here; it can with {self._unavailable[kind.point]}"
            )
        self._count += 1
        injector = ArmedFault(str(self._count), fault)
        self._armed.append(injector)
        self.idle = False
        self._points.setdefault(kind.point, []).append(injector)
        return injector

    def inject(self, name: str, *, seed: int = 0, **parameters: Any) -> str:
        """Arm a fault by name, with common and own parameters, and return its id."""
        common = {key: parameters.pop(key) for key in _COMMON & parameters.keys()}
        return self.arm(Fault(name, seed=seed, parameters=parameters, **common)).id

    def any_at(self, *points: str) -> bool:
        """Return whether a fault is armed for one of these points."""
        return any(self._points.get(point) for point in points)

    def at(self, point: str, target: str = "", **about: Any) -> Iterable[ArmedFault]:
        """Return the faults that happen now, and record each in the journal with ``about``."""
        armed = self._points.get(point)
        if not armed:
            return ()
        now = self._clock.time()
        return [self._fire(each, target, about) for each in armed if each.meets(target, now)]

    def _fire(self, injector: ArmedFault, target: str, about: dict[str, Any]) -> ArmedFault:
        injector.fired += 1
        fault = injector.fault
        self.journal.record(
            "fault.injected", name=fault.name, seed=fault.seed, id=injector.id, target=target,
            occasion=injector.occasions, **about,
        )  # fmt: skip
        return injector

    def active(self) -> list[dict[str, Any]]:
        """Return the armed faults as JSON values: id, name, seed, parameters, fired."""
        return [injector.as_dict() for injector in self._armed]

    def clear(self, identity: str | None = None) -> int:
        """Disarm one fault, or all, and return the number."""
        removed = [each for each in self._armed if identity in (None, each.id)]
        for injector in removed:
            self._armed.remove(injector)
            self._points[injector.kind.point].remove(injector)
        self.idle = not self._armed
        return len(removed)

    def fired(self, name: str) -> int:
        """Return how often the armed faults of this name have happened."""
        return sum(each.fired for each in self._armed if each.name == name)
