"""The worker's side of ``presence``: what it tells about itself and its batch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from twolane.errors import StoreUnavailableError
from twolane.worker.presence import Facts, Presence, task_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery import Celery

    from twolane.state.store import StateStore
    from twolane.worker.consumer import TaskConsumer
    from twolane.worker.lookup import Opened

#: A worker tells of its batches this often at most, in seconds, unless one lasts: each telling is
#: a write of some kilobytes.
_RARELY_S = 60.0

#: What ``inspect registered`` can be asked for of each task.
_SHOWN = (
    "name", "exchange", "routing_key", "rate_limit", "serializer", "max_retries", "acks_late",
    "ignore_result", "track_started", "time_limit", "soft_time_limit", "priority", "expires",
)  # fmt: skip

logger = logging.getLogger("twolane.worker")


class Teller:
    """Tells the store at cold start and at the start of each batch."""

    def __init__(
        self,
        app: Celery,
        store: StateStore,
        consumer: TaskConsumer,
        clock: Callable[[], float],
    ) -> None:
        self._app = app
        self._presence = Presence(store)
        self._consumer = consumer
        self._clock = clock
        self._told = 0.0
        self._untold: Sequence[Opened] | None = None
        self._known: tuple[list[str], dict[str, dict[str, str]]] | None = None

    def enlist(self) -> None:
        """Become known. A store that is down now costs only ``inspect``, not the cold start."""
        try:
            self._presence.enlist(self._consumer.hostname, self._clock())
            self._presence.tell(self._facts({}))
        except StoreUnavailableError as error:
            logger.warning("this worker is not listed for inspect: %s", error)

    def tell(self, batch: Sequence[Opened]) -> None:
        """Tell at once, or, right after the last time, only if the batch takes longer.

        Batches that are over in no time need not be known; telling of each would cost more than
        running it.
        """
        # A clock that was set back says nothing about the last time.
        if 0 <= self._clock() - self._told < _RARELY_S:
            self._untold = batch
        else:
            self._tell(batch)

    def catch_up(self) -> None:
        """Tell what ``tell`` has put off: the watching thread calls it in a batch that lasts."""
        batch, self._untold = self._untold, None
        if batch is not None:
            self._tell(batch)

    def rest(self) -> None:
        """The batch has ended."""
        self._untold = None

    def _tell(self, batch: Sequence[Opened]) -> None:
        now = self._told = self._clock()
        with_args = bool(self._app.conf.result_extended)
        self._presence.tell(
            self._facts(
                {
                    one.lease_key: task_facts(
                        one.envelope,
                        one.facts,
                        hostname=self._consumer.hostname,
                        now=now,
                        with_args=with_args,
                        redelivered=one.record.receive_count > 1,
                    )
                    for one in batch
                    if one.envelope and one.facts and one.lease_key
                }
            )
        )

    def _facts(self, tasks: dict[str, dict[str, Any]]) -> Facts:
        return Facts(
            hostname=self._consumer.hostname,
            seen=self._clock(),
            stats=self._consumer.controller.stats(),
            registered=self._registered(),
            tasks=tasks,
        )

    def _registered(self) -> dict[str, dict[str, str]]:
        """A task's options are those of its definition: they are read once, unless more come."""
        names = list(self._app.tasks)
        if self._known is None or self._known[0] != names:
            self._known = (
                names,
                {
                    name: {
                        item: str(value)
                        for item in _SHOWN
                        if (value := getattr(task, item, None)) is not None
                    }
                    for name, task in sorted(self._app.tasks.items())
                    if not name.startswith("celery.")
                },
            )
        return self._known[1]
