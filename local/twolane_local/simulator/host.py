"""What the parts of a run use of the world that they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping

    from twolane.worker.lease import Lease
    from twolane_local.faults.injection import Faults
    from twolane_local.faults.points import Points
    from twolane_local.journal import Journal
    from twolane_local.testing.world import World as VirtualWorld
    from twolane_local.virtual_clock import VirtualClock


class ResultStore(Protocol):
    """The result store of a run, of either kind."""

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """What is replaced during a run, so that the store's clients come here."""

    def result(self, task: str) -> dict[str, Any] | None:
        """What is stored of a task, as Celery stores it."""


class Host(Protocol):
    """The world of a run, as its environments, its store and its tasks see it."""

    seed: int
    virtual: VirtualWorld
    loop: Any
    clock: VirtualClock
    journal: Journal
    faults: Faults
    queues: Any
    store: ResultStore
    scheduler: Any
    points: Points

    def note(
        self, kind: str, *, task: str | None = None, message: str | None = None,
        queue: str | None = None, where: str | None = None, **data: Any,
    ) -> None:  # fmt: skip
        """One more fact."""

    def logged(self, record: logging.LogRecord) -> None:
        """A line of the runtime's log."""

    def lease_changed(self, key: str, lease: Lease | None) -> None:
        """The store has another lease under a key."""

    def result_changed(self, task: str, stored: Mapping[str, Any] | None) -> None:
        """The store has another state of a task; ``None``: it has none any more."""

    def called(self, what: str) -> None:
        """A call of an environment's was carried out; its answer is still to come."""

    def effect(self, task: str, what: str) -> None:
        """A task does what cannot be undone."""

    def random_bytes(self, count: int) -> bytes:
        """Stands for ``os.urandom``."""

    def new_id(self) -> str:
        """A request id."""
