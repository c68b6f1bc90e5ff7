"""Fair queues: on a standard queue, quiet tenants' messages come before those of noisy ones.

A tenant is a ``MessageGroupId``; each message without one is a tenant of its own, always quiet. A
tenant is noisy while it takes too large a share of the consumers, until its backlog is gone:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues-detailed.html

AWS calls its thresholds approximate. It does not document how long "recent" is; here processing
time counts half after a minute. Nothing runs in the background, and no operation searches: it costs
the same with a hundred thousand messages of one tenant.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, heapreplace
from math import exp2
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from twolane_local.model.states import VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from twolane_local.model.message import Message

#: A tenant with more than this share of the messages in flight, and at least so many of them …
SHARE, AT_LEAST = 0.10, 30
#: … or with more than the share of recent processing time, which counts half after this time …
HALF_LIFE_S = 60.0
#: … is noisy; until it has had nothing in flight for so long, at the latest.
QUIET_AFTER_S = 300.0


class Entry(Protocol):
    """A message on the queue; ``epoch`` increases with each change of its state."""

    epoch: int
    state: str
    message: Message


E = TypeVar("E", bound=Entry)


class Load:
    """The messages in flight of one tenant or of all: now, and on average of late.

    The average is in proportion to processing time, which SQS knows as time in flight.
    """

    __slots__ = ("_at", "_average", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        self._average = self._at = 0.0

    def change(self, by: int, now: float) -> None:
        self._average, self._at = self.recent(now), now
        self.in_flight += by

    def recent(self, now: float) -> float:
        """The average up to ``now``, of which older times count less."""
        left = exp2(-max(0.0, now - self._at) / HALF_LIFE_S)
        return self._average * left + self.in_flight * (1 - left)

    def idle_s(self, now: float) -> float:
        """How long nothing has been in flight."""
        return 0.0 if self.in_flight else now - self._at

    def forget(self, now: float) -> None:
        """Begin anew, with what is in flight."""
        self._average, self._at = 0.0, now

    def is_large(self, total: Load, now: float) -> bool:
        """True if this is more than its share of ``total``."""
        if self.in_flight >= AT_LEAST and self.in_flight > SHARE * total.in_flight:
            return True
        return self.recent(now) > SHARE * total.recent(now)


class Tenant(Generic[E]):
    """The messages of one group; ``waiting`` are the visible ones, in the order of ``tickets``."""

    __slots__ = ("load", "name", "noisy", "offered", "waiting")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.waiting: deque[tuple[int, int, E]] = deque()
        self.load = Load()
        self.noisy = False
        self.offered = False  # in the heap of quiet tenants

    def __lt__(self, other: Tenant[E]) -> bool:
        """By name; the heap asks only if two have the same ticket, which no two have."""
        return (self.name or "") < (other.name or "")

    def head(self) -> tuple[int, int, E] | None:
        """The first visible message, with its ticket."""
        waiting = self.waiting
        # A message can be deleted by its last receipt handle while it is visible again.
        while waiting and waiting[0][1] != waiting[0][2].epoch:
            waiting.popleft()
        return waiting[0] if waiting else None


class FairOrder(Generic[E]):
    """The visible messages of a standard queue with groups, in the order of handing out.

    Quiet tenants' messages first, as they became visible; then those of the noisy tenant with the
    fewest in flight. ``now`` is the time of the present operation.
    """

    def __init__(self, visible: Iterable[E], in_flight: int, now: float) -> None:
        """Take over a queue without groups: its messages, and the number of those in flight."""
        self.now = now
        self._tickets = 0
        self._total = Load()
        self._ungrouped: Tenant[E] = Tenant(None)
        self._tenants: dict[str, Tenant[E]] = {}
        self._noisy: dict[str, Tenant[E]] = {}
        #: Quiet tenants by a ticket that is not later than their first message's.
        self._quiet: list[tuple[int, Tenant[E]]] = []
        self._change(self._ungrouped, in_flight)
        for entry in visible:
            self.add(entry)

    def add(self, entry: E) -> None:
        if entry.state is not VISIBLE:
            return
        tenant = self._tenant(entry)
        self._tickets += 1
        tenant.waiting.append((self._tickets, entry.epoch, entry))
        if not tenant.noisy:
            self._offer(tenant)

    became_visible = add

    def held(self, entry: E) -> None:
        self._change(self._tenant(entry), 1)

    def give_back(self, entry: E) -> None:
        self._change(self._tenant(entry), -1)
        self.add(entry)

    def released(self, entry: E) -> None:
        tenant = self._tenant(entry)
        self._change(tenant, -1)
        self._settle(tenant)

    def withdrawn(self, entry: E) -> None:
        tenant = self._tenants.get(entry.message.group_id or "")
        if tenant is not None:
            self._settle(tenant)

    def take(self, limit: int, accept: Callable[[E], bool]) -> None:
        taken = 0
        while taken < limit and (tenant := self._next()) is not None:
            if accept(tenant.waiting.popleft()[2]):
                self._change(tenant, 1)
                taken += 1
            self._settle(tenant)

    def first(self) -> E | None:
        tenant = self._next()
        return tenant.waiting[0][2] if tenant is not None else None

    def noisy(self) -> Iterator[Tenant[E]]:
        """The tenants that are noisy now."""
        self._next()
        return iter(self._noisy.values())

    def _next(self) -> Tenant[E] | None:
        """The tenant whose first message is handed out next."""
        for tenant in [*self._noisy.values()]:
            self._check_noisy(tenant)
        quiet = self._quiet
        while quiet:
            ticket, tenant = quiet[0]
            head = tenant.head()
            if head is not None and head[0] != ticket:
                heapreplace(quiet, (head[0], tenant))
                continue
            if head is not None and tenant.name is not None:
                tenant.noisy = tenant.load.is_large(self._total, self.now)
            if head is not None and not tenant.noisy:
                return tenant
            heappop(quiet)
            tenant.offered = False
            if tenant.noisy and tenant.name is not None:
                self._noisy[tenant.name] = tenant
        waiting = [(tenant.load.in_flight, head[0], tenant)
                   for tenant in self._noisy.values() if (head := tenant.head())]  # fmt: skip
        return min(waiting)[2] if waiting else None

    def _check_noisy(self, tenant: Tenant[E]) -> None:
        """Treat a noisy tenant as quiet again if it is time to.

        It is, too, once the tenant's shares have come down, which only work of others shows.
        """
        load, total, now = tenant.load, self._total, self.now
        if load.idle_s(now) >= QUIET_AFTER_S:
            load.forget(now)
        elif load.is_large(total, now) or not total.recent(now):
            return
        self._calm(tenant)

    def _settle(self, tenant: Tenant[E]) -> None:
        """Look whether the tenant's backlog is gone, and all of the tenant with it."""
        if tenant.name is None or tenant.head() is not None:
            return
        if tenant.noisy:
            tenant.load.forget(self.now)
            self._calm(tenant)
        if not tenant.load.in_flight:
            self._tenants.pop(tenant.name, None)

    def _calm(self, tenant: Tenant[E]) -> None:
        tenant.noisy = False
        self._noisy.pop(tenant.name or "", None)
        self._offer(tenant)

    def _offer(self, tenant: Tenant[E]) -> None:
        if not tenant.offered and (head := tenant.head()) is not None:
            heappush(self._quiet, (head[0], tenant))
            tenant.offered = True

    def _change(self, tenant: Tenant[E], by: int) -> None:
        tenant.load.change(by, self.now)
        self._total.change(by, self.now)

    def _tenant(self, entry: E) -> Tenant[E]:
        name = entry.message.group_id
        if name is None:
            return self._ungrouped
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name)
        return tenant
