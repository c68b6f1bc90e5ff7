"""The state of environments, messages, mappings and queues at one moment."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.model import FunctionSpec
    from twolane_local.model.message import Message

DELAYED, VISIBLE, IN_FLIGHT, GONE = "delayed", "visible", "in flight", "gone"


def camel_case(item: Any) -> dict[str, Any]:
    """Return the values of a dataclass under camelCase names, in the order of its fields."""
    names = [field.name for field in fields(item)]
    return {re.sub("_(.)", lambda m: m[1].upper(), name): getattr(item, name) for name in names}


@dataclass(frozen=True, slots=True)
class EnvironmentState:
    """``cold`` in its init phase, ``busy``, or ``frozen`` until it has work, for ``for_s`` seconds;
    ``requests`` are the ids of its last two invocations.
    """

    id: str
    state: str
    for_s: float
    invocations: int
    requests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PoolState:
    """The number of a function's environments, and of invocations that wait for one."""

    limit: int
    reserved: int | None
    busy: int
    idle: int
    starting: int
    waiting: int
    environments: tuple[EnvironmentState, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageState:
    """A message on its queue; it can be received from ``visible_at`` on."""

    message: Message
    queue: str
    position: int
    state: str
    receive_count: int
    visible_at: float
    first_received_at: float

    @property
    def id(self) -> str:
        return self.message.id


@dataclass(frozen=True, slots=True)
class MappingState:
    """An event source mapping; ``allowed`` is the number of batches that may be under way."""

    id: str
    queue: str
    function: str
    enabled: bool
    batch_size: int
    maximum_concurrency: int | None
    under_way: int
    allowed: int
    filtered: bool

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in camel_case(self).items() if name != "queue"}


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue and its counts. Times in seconds; ``oldest_s`` is the age of the oldest message.

    ``noisy`` has the visible messages of each noisy message group of a fair queue.
    """

    name: str
    arn: str
    fifo: bool
    visible: int
    in_flight: int
    delayed: int
    oldest_s: float | None
    sent: int
    visibility_s: float
    delay_s: float
    retention_s: float
    dead_letter_queue: str | None
    max_receives: int | None
    dead_letter_of: tuple[str, ...] = ()
    mappings: tuple[MappingState, ...] = ()
    noisy: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        found = {
            "name": self.name, "arn": self.arn, "fifo": self.fifo, "visible": self.visible,
            "inFlight": self.in_flight, "delayed": self.delayed,
            "oldestAgeSeconds": self.oldest_s, "sent": self.sent,
            "visibilityTimeout": self.visibility_s, "delaySeconds": self.delay_s,
            "retentionSeconds": self.retention_s, "deadLetterQueue": self.dead_letter_queue,
            "maxReceiveCount": self.max_receives, "deadLetterOf": list(self.dead_letter_of),
            "mappings": [each.as_dict() for each in self.mappings],
            "noisyGroups": dict(self.noisy) or None,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment; ``messages`` holds the requested ones only."""

    now: float
    queues: dict[str, QueueState]
    messages: dict[str, MessageState]
    functions: dict[str, tuple[FunctionSpec, PoolState]]
    paused: bool = False
