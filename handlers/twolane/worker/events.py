"""Task events for monitors such as Flower, over Redis.

Celery publishes its events on the broker, as a broadcast; SQS has none. If the results are in
Redis, the events go there instead, in kombu's own form, and monitors that load this application
read them there::

    celery -A app.worker flower

A monitor that does not load it needs the address: ``celery --broker=redis://… flower``.

Off by default, on by Celery's own settings: ``worker_send_task_events`` for a worker's events,
``task_send_sent_event`` for a publisher's. ``twolane_events_url`` names another Redis. No task
fails because of an event that cannot be sent. Publishers import this module too: it stays light.
https://docs.celeryq.dev/en/stable/userguide/monitoring.html#events
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from celery.events.dispatcher import EventDispatcher
from celery.events.event import get_exchange
from celery.events.receiver import EventReceiver
from kombu import Connection

from twolane.environment import snapshot
from twolane.patches.publishing import on_sqs

if TYPE_CHECKING:
    from celery import Celery

logger = logging.getLogger("twolane.worker")

#: How many events wait in memory for a Redis that does not answer; older ones are dropped.
_WAITING = 1000

#: How long, in seconds, Redis may take for an event, and for how long it is left alone once it has
#: taken longer than ``_SOON_S``: each event of a batch would wait as long again.
_ANSWER_S, _SOON_S, _QUIET_S = 1, 0.5, 30.0

#: How often a worker says that it is alive, in seconds. To Flower it is offline after twice that.
#: An environment says so with each batch, and cannot while it is frozen.
_HEARTBEAT_S = 900.0


def events_url(app: Celery) -> str | None:
    """The Redis that events go to; ``None`` where the settings name none."""
    url = app.conf.get("twolane_events_url") or app.conf.result_backend
    return url if isinstance(url, str) and url.startswith(("redis://", "rediss://")) else None


class Dispatcher(EventDispatcher):
    """Celery's dispatcher; with SQS as the broker, publishers' events go to Redis as well."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._outbound_buffer: deque[Any] = deque(maxlen=_WAITING)
        self._redis: Any = None
        self._quiet_until = 0.0
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the connection; the next event opens another."""
        producer, self._redis = self._redis, None
        if producer is not None:
            producer.connection.close()

    def publish(  # type: ignore[override]
        self,
        type: str,  # noqa: A002 - Celery's name
        fields: dict[str, Any],
        producer: Any,
        **kwargs: Any,
    ) -> None:
        """Publish one event with another's producer: Celery's ``task-sent``."""
        app: Any = self.app
        if on_sqs(app):
            url = events_url(app)
            if url is None:
                logger.debug("no Redis for events; %s is dropped", type)
                return
            if self._redis is None:
                conf = cast("Any", self.app).conf
                connection = redis_at(url)
                self.exchange = get_exchange(connection, name=conf.event_exchange)
                self._redis = connection.Producer(
                    exchange=self.exchange, serializer=conf.event_serializer, auto_declare=False
                )
            producer = self._redis
            kwargs.update(retry=False)
        super().publish(type, fields, producer, **kwargs)

    def _publish(self, event: Any, producer: Any, routing_key: str, *args: Any, **kw: Any) -> None:
        """As Celery's; once Redis has let an event wait, others wait without trying."""
        now = time.monotonic()
        if now < self._quiet_until:
            self._outbound_buffer.append((event, routing_key))
            return
        super()._publish(event, producer, routing_key, *args, **kw)  # type: ignore[misc]
        if time.monotonic() - now > _SOON_S:
            self._quiet_until = time.monotonic() + _QUIET_S


class Receiver(EventReceiver):
    """Celery's receiver, as monitors make it; with SQS as the broker, it listens to Redis."""

    def __init__(self, channel: Any, *args: Any, app: Any = None, **kwargs: Any) -> None:
        app = app or self.app
        super().__init__(listening_to(app, channel), *args, app=app, **kwargs)  # type: ignore[misc]


def listening_to(app: Any, channel: Any) -> Any:
    """The connection on which a monitor finds this application's events: Redis, or ``channel``."""
    url = events_url(app) if app is not None and on_sqs(app) else None
    return Connection(url) if url else channel


def worker_dispatcher(app: Celery, hostname: str) -> Dispatcher | None:
    """The dispatcher of the worker's consumer; ``None`` unless events are on."""
    url = events_url(app)
    if not app.conf.worker_send_task_events or url is None:
        return None
    return Dispatcher(redis_at(url), hostname, app=app)


def redis_at(url: str) -> Connection:
    """A connection with short limits: an event is worth less than the task that it names."""
    options = {"socket_timeout": _ANSWER_S, "socket_connect_timeout": _ANSWER_S}
    return Connection(url, connect_timeout=_ANSWER_S, transport_options=options)


def tell_alive(dispatcher: Dispatcher, event: str = "worker-heartbeat") -> None:
    """Send what a stock worker's heartbeat sends, and what waited for Redis to answer."""
    from celery.utils.sysinfo import load_average
    from celery.worker import state as worker_state

    dispatcher.flush()
    facts: dict[str, Any] = {
        "freq": _HEARTBEAT_S,
        "active": len(worker_state.active_requests),
        "processed": worker_state.all_total_count[0],
        "loadavg": load_average(),
        **worker_state.SOFTWARE_INFO,
    }
    dispatcher.send(event, **facts)
