"""What a campaign sends and when what goes wrong: drawn from a seed, and nothing else."""

from __future__ import annotations

import base64
import json
import random
import uuid
from dataclasses import asdict, dataclass, field
from typing import Any

HEADERS = 20

#: How many of a hundred units are of each kind, beside the chords.
WEIGHTS = {
    "plain": 30, "slow": 6, "eta": 8, "flaky": 8, "doomed": 3, "errback": 4, "errback-inline": 3,
    "chain": 8, "group": 5, "replace": 4, "link": 5, "expired": 3, "revoked": 3, "repeated": 5,
    "unknown": 1, "malformed": 3, "odd": 2,
}  # fmt: skip

#: What is dead-lettered, or may be.
_LATE = frozenset({"malformed", "odd", "unknown"})

#: Fault → how often in a campaign of 2,000 tasks, and the part of the sending in which it strikes.
#: What a store that was down has sent back comes again after half a minute: those come early.
FAULTS: dict[str, tuple[int, float, float]] = {
    "environment.killed": (12, 0.02, 1.0),
    "environment.frozen": (6, 0.02, 1.0),
    "environment.frozen-beyond-its-timeout": (2, 0.1, 0.8),
    "api.killed": (2, 0.1, 0.9),
    "store.killed": (3, 0.03, 0.35),
    "store.frozen": (2, 0.03, 0.35),
    "emulator.killed": (2, 0.2, 0.9),
    "emulator.frozen": (1, 0.1, 0.9),
    "visibility.stolen": (8, 0.02, 1.0),
    "disk.full": (2, 0.1, 0.8),
    "queue.two-deliveries-at-once": (4, 0.0, 0.9),
    "queue.duplicate-delivery": (4, 0.0, 0.9),
    "queue.reordered": (4, 0.0, 0.9),
    "send.reply-lost": (3, 0.0, 0.9),
    "receive.reply-lost": (2, 0.0, 0.9),
    "delete.failed": (2, 0.0, 0.9),
}


@dataclass(frozen=True)
class Unit:
    """What is sent at once. ``bodies`` are messages as they are, not made by Celery."""

    unit: int
    kind: str
    via: str
    ids: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    bodies: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Strike:
    """A fault at a place of the sending, 0 to 1; ``draw`` is its own chance."""

    at: float
    fault: str
    draw: int


@dataclass(frozen=True)
class Plan:
    units: list[Unit]
    strikes: list[Strike]

    @property
    def tasks(self) -> int:
        return sum(max(len(unit.ids), 1) for unit in self.units)


def draw(
    seed: int, tasks: int, chords: int, faults: list[str], without: frozenset[str] = frozenset()
) -> Plan:
    chance = random.Random(seed)
    weights = {kind: weight for kind, weight in WEIGHTS.items() if kind not in without}
    kinds = ["chord"] * chords + ["nested"] * max(1, chords // 5)
    left = tasks - chords * (HEADERS + 1) - 9 * max(1, chords // 5)
    wanted: list[tuple[str, int]] = []
    while left > 0:
        kind = chance.choices(list(weights), list(weights.values()))[0]
        size = {"chain": chance.randint(2, 5), "group": chance.randint(2, 6)}.get(kind)
        size = size or {"errback": 2, "link": 2}.get(kind, 1)
        wanted.append((kind, size))
        left -= size
    wanted += [(kind, HEADERS + 1 if kind == "chord" else 9) for kind in kinds]
    chance.shuffle(wanted)
    units = [_unit(number, kind, size, chance) for number, (kind, size) in enumerate(wanted)]
    return Plan(_placed(units, chance), _strikes(faults, tasks, chance))


def _placed(units: list[Unit], chance: random.Random) -> list[Unit]:
    """What is dead-lettered goes out after the store's outages, and some time before the end.

    It has a minute of receives before it; one of those in an outage would be minutes long.
    """
    slow = [unit for unit in units if unit.kind in _LATE]
    rest = [unit for unit in units if unit.kind not in _LATE]
    for unit in slow:
        rest.insert(int(len(units) * chance.uniform(0.5, 0.8)), unit)
    return rest


def _strikes(faults: list[str], tasks: int, chance: random.Random) -> list[Strike]:
    strikes = []
    for fault, (often, first, last) in FAULTS.items():
        # A small campaign has one of each.
        for _ in range(max(1, round(often * min(1.0, tasks / 2000)))):
            strike = Strike(chance.uniform(first, last), fault, chance.getrandbits(32))
            if fault in faults:
                strikes.append(strike)
    return sorted(strikes, key=lambda strike: strike.at)


def _unit(number: int, kind: str, size: int, chance: random.Random) -> Unit:
    ids = [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(size)]
    via = "stock" if chance.random() < 0.3 else "api"
    options: dict[str, Any] = {}
    bodies: list[str] = []
    if kind == "slow":
        options["pause"] = round(chance.uniform(0.1, 0.8), 2)
    elif kind == "chord":
        options["pause"] = round(chance.choice([0.0, 0.0, 0.05]), 2)
    elif kind == "eta":
        options["countdown"] = round(chance.uniform(0.5, 8), 2)
    elif kind == "revoked":
        options["countdown"], via = 12.0, "api"
    elif kind == "flaky":
        options["fails"] = chance.randint(1, 3)
    elif kind == "replace":
        options["steps"] = chance.choice([0, 0, 2, 3])
    elif kind == "repeated":
        bodies, via = [message("campaign.plain", [number], ids[0], chance)], "raw"
        options["copies"] = chance.randint(2, 3)
    elif kind in {"malformed", "odd"}:
        bodies, via, ids = [(malformed if kind == "malformed" else odd)(number, chance)], "raw", []
    return Unit(number, kind, via, ids, options, bodies)


def message(task: str, args: list[Any], task_id: str, chance: random.Random) -> str:
    """A task as kombu puts it on SQS."""
    return json.dumps(_envelope(task, args, task_id, chance))


def _envelope(task: str, args: list[Any], task_id: str, chance: random.Random) -> dict[str, Any]:
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = base64.b64encode(json.dumps([args, {}, embed]).encode()).decode()
    tag = str(uuid.UUID(int=chance.getrandbits(128), version=4))
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": task, "id": task_id, "root_id": task_id, "parent_id": None,
            "group": None, "retries": 0, "eta": None, "expires": None,
            "timelimit": [None, None], "argsrepr": repr(args), "kwargsrepr": "{}",
            "origin": "campaign", "ignore_result": False, "replaced_task_nesting": 0,
            "stamped_headers": None, "stamps": {},
        },
        "properties": {
            "correlation_id": task_id, "reply_to": "", "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "tasks"},
            "body_encoding": "base64", "delivery_tag": tag,
        },
    }  # fmt: skip


#: Field of the envelope → what no worker can make a task of. ``None`` leaves the field out.
_MALFORMED: list[tuple[str, str, Any]] = [
    ("", "body", "!"),
    ("", "body", 5),
    ("", "body", base64.b64encode(b'{"unit": 1}').decode()),
    ("", "headers", None),
    ("", "content-type", "application/x-python-serialize"),
    ("headers", "task", None),
    ("headers", "task", {"a": 1}),
]

#: What a worker may take or leave.
_ODD: list[tuple[str, str, Any]] = [
    ("headers", "retries", "x"),
    ("headers", "stamped_headers", 5),
    ("headers", "eta", "soon"),
    ("headers", "expires", [1]),
    ("headers", "timelimit", "x"),
    ("headers", "group", 5),
    ("headers", "parent_id", {"a": [1]}),
    ("headers", "replaced_task_nesting", "y"),
    ("headers", "id", "\ud800"),
    ("headers", "origin", "\udfff"),
    ("properties", "delivery_tag", [1]),
    ("properties", "delivery_info", 7),
    ("properties", "priority", "high"),
]


def malformed(number: int, chance: random.Random) -> str:
    """No task; each is a message of its own, so that the dead letters can be told apart."""
    which = chance.randrange(len(_MALFORMED) + 3)
    if which == 0:
        return f"unit {number} is no JSON"
    if which in {1, 2}:
        return json.dumps([number, "a list"] if which == 1 else number)
    return _changed(number, _MALFORMED[which - 3], chance)


def odd(number: int, chance: random.Random) -> str:
    return _changed(number, chance.choice(_ODD), chance)


def _changed(number: int, change: tuple[str, str, Any], chance: random.Random) -> str:
    envelope = _envelope("campaign.plain", [number], f"changed-{number}", chance)
    where, name, value = change
    fields = envelope[where] if where else envelope
    if value is None:
        del fields[name]
    else:
        fields[name] = f"{value}{number}" if name == "id" else value
    return json.dumps({**envelope, "unit": number})
