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
    """A message on the queue; ``epoch`` increases with each change of its state.

    ``turn`` is its place among those that wait.
    """

    epoch: int
    state: str
    turn: int
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
    """The messages of one group that wait: what was sent or received longest ago comes first."""

    __slots__ = ("_again", "_new", "load", "name", "noisy", "offered")

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.load = Load()
        self.noisy = False
        self.offered: int | None = None  # the turn by which it is in the heap of quiet tenants
        self._new: deque[tuple[int, int, E]] = deque()  # never received
        self._again: list[tuple[int, int, E]] = []  # a heap: visible again

    def __lt__(self, other: Tenant[E]) -> bool:
        """Of the same turn are only two places of one tenant."""
        return False

    def __len__(self) -> int:
        return len(self._new) + len(self._again)

    def add(self, entry: E) -> None:
        self._new.append((entry.turn, entry.epoch, entry))

    def add_again(self, entry: E) -> None:
        heappush(self._again, (entry.turn, entry.epoch, entry))

    def head(self) -> E | None:
        """The message that comes first."""
        new, again = self._new, self._again
        # An entry whose epoch has changed was hidden or deleted by a receipt handle.
        while new and new[0][1] != new[0][2].epoch:
            new.popleft()
        while again and again[0][1] != again[0][2].epoch:
            heappop(again)
        if again and (not new or again[0][0] < new[0][0]):
            return again[0][2]
        return new[0][2] if new else None

    def drop(self, entry: E) -> None:
        """Remove the head."""
        if self._again and self._again[0][2] is entry:
            heappop(self._again)
        else:
            self._new.popleft()


class FairOrder(Generic[E]):
    """The visible messages of a standard queue with groups, in the order of handing out.

    Quiet tenants' messages first, in turn; then those of the noisy tenant with the fewest in
    flight. ``now`` is the time of the present operation.
    """

    def __init__(self, visible: Iterable[E], in_flight: Iterable[E], now: float) -> None:
        """Take over the messages of a queue without groups."""
        self.now = now
        self._turns = 0
        self._total = Load()
        self._ungrouped: Tenant[E] = Tenant(None)
        self._tenants: dict[str, Tenant[E]] = {}
        self._noisy: dict[str, Tenant[E]] = {}
        #: Quiet tenants by a turn that is not later than that of their first message.
        self._quiet: list[tuple[int, Tenant[E]]] = []
        for entry in in_flight:
            self.held(entry)
        for entry in visible:
            self.add(entry)

    def add(self, entry: E) -> None:
        if entry.state is VISIBLE:
            self.became_visible(entry)

    def became_visible(self, entry: E) -> None:
        self._to_the_end(entry)
        tenant = self._tenant(entry)
        tenant.add(entry)
        self._offer(tenant)

    def give_back(self, entry: E) -> None:
        tenant = self._tenant(entry)
        self._change(tenant, -1)
        tenant.add_again(entry)
        self._offer(tenant)

    def held(self, entry: E) -> None:
        self._to_the_end(entry)
        self._change(self._tenant(entry), 1)

    def hidden(self, entry: E) -> None:
        tenant = self._tenant(entry)
        self._change(tenant, 1)
        self._settle(tenant)

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
        while taken < limit and (following := self._next()) is not None:
            tenant, entry = following
            tenant.drop(entry)
            self._to_the_end(entry)
            if accept(entry):
                self._change(tenant, 1)
                taken += 1
            self._settle(tenant)

    def first(self) -> E | None:
        following = self._next()
        return following[1] if following is not None else None

    def noisy(self) -> Iterator[Tenant[E]]:
        """The tenants that are noisy now."""
        self._next()
        return iter(self._noisy.values())

    def _to_the_end(self, entry: E) -> None:
        self._turns += 1
        entry.turn = self._turns

    def _next(self) -> tuple[Tenant[E], E] | None:
        """The message that is handed out next, with its tenant."""
        for tenant in [*self._noisy.values()]:
            self._check_noisy(tenant)
        quiet = self._quiet
        while quiet:
            turn, tenant = quiet[0]
            if tenant.offered != turn or tenant.noisy or (head := tenant.head()) is None:
                if tenant.offered == turn:
                    tenant.offered = None
                heappop(quiet)
            elif head.turn != turn:
                tenant.offered = head.turn
                heapreplace(quiet, (head.turn, tenant))
            elif tenant.name is not None and tenant.load.is_large(self._total, self.now):
                tenant.noisy = True
                self._noisy[tenant.name] = tenant
            else:
                return tenant, head
        waiting = [(tenant.load.in_flight, head.turn, tenant, head)
                   for tenant in self._noisy.values() if (head := tenant.head())]  # fmt: skip
        return min(waiting)[2:] if waiting else None

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
        if tenant.noisy or (head := tenant.head()) is None:
            return
        if tenant.offered is None or head.turn < tenant.offered:
            tenant.offered = head.turn
            heappush(self._quiet, (head.turn, tenant))

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
