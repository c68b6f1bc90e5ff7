"""``WorkerHandler``: SQS events in, partial batch responses out, Celery in between."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery import _state, signals
from celery.app import trace

from twolane import patches
from twolane.environment import init_phase, logs, snapshot
from twolane.environment.forks import ends_in_child
from twolane.environment.invocation import deadline as invocation_end
from twolane.environment.invocation import left_s, within
from twolane.patches.publishing import refuse_rpc
from twolane.publish import application
from twolane.publish import message as headers
from twolane.publish.claimcheck import claim_check
from twolane.publish.installation import install
from twolane.state import find_store
from twolane.worker.aws import QueueClient, Sqs
from twolane.worker.delay import Deferral, postponing, schedules
from twolane.worker.descent import Descent
from twolane.worker.lease import Leases
from twolane.worker.limits import Waits, deadline_of
from twolane.worker.lookup import Lookup, Watch
from twolane.worker.presence import WorkerPresence
from twolane.worker.records import parse_event, response, visibility_s
from twolane.worker.work import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery

    from twolane.state.store import StateStore

#: How long, in seconds, a cold start waits for a store that says nothing. Only ``inspect`` needs to
#: know of an environment that has run nothing yet, and Lambda's init ends after ten seconds:
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-ib
_INIT_S = 1.5


class WorkerHandler:
    """The Lambda handler of a Celery application whose broker is SQS::

        handler = WorkerHandler(celery)

    Give the function an event source mapping with ``ReportBatchItemFailures``. The keyword
    arguments are seams for tests: the state store (by default the application's own), SQS, the
    Celery node's name, the environment and the clock.
    """

    def __init__(
        self,
        app: Celery,
        *,
        store: StateStore | None = None,
        queues: QueueClient | None = None,
        hostname: str | None = None,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        logs.configure()
        snapshot.begin(environ)
        install()
        patches.install("worker")
        headers.leave_starts()
        vars(app).pop("control", None)  # one that was made before us is Celery's own
        self._app = app
        self._queues = queues or Sqs(environ)
        self._named, self._environ = hostname, environ
        self._given, self._clock = store, clock
        hostname = hostname or node_name(environ)
        refuse_rpc(app)
        application.warn(app, environ, "worker")
        _prepare(app, hostname)
        self._long_delays = schedules(environ)
        self._open(hostname)
        self._read_again = True
        controller = self._worker.consumer.controller
        signals.celeryd_after_setup.send(sender=hostname, instance=controller, conf=app.conf)
        signals.worker_init.send(sender=controller)
        if snapshot.pending():
            snapshot.after_restore(self._restored)
        else:
            self._begin()
        init_phase.end()

    def _open(self, hostname: str) -> None:
        """Make what works by the application's settings."""
        app, clock = self._app, self._clock
        _read_nothing(app)
        self._settings = _settings(app)
        store = self._given or find_store(app)
        if store is None:
            logs.emit(
                logging.getLogger("twolane.worker"),
                "worker.without-store",
                "! There is no state store: a message that comes twice runs twice, unless this "
                "environment has finished it before; and revoke and inspect know nothing. Set "
                "Celery's result_backend, or the variable TWOLANE_STATE_STORE where the results "
                "are elsewhere, to redis://… or dynamodb://…",
                level=logging.WARNING,
            )
        self._worker = Worker(
            app,
            hostname=hostname,
            lookup=Lookup(store, clock),
            leases=Leases(store, clock, _keep_s(app)) if store else None,
            deferral=Deferral(self._queues, self._long_delays),
            descent=Descent(app, clock),
            redeem=claim.redeem if (claim := claim_check(app)) else str,
            clock=clock,
        )
        self._presence = WorkerPresence(app, store, self._worker.consumer, clock) if store else None
        self._watch = self._worker.pool.watch = (
            Watch(store, each_time=self._presence.catch_up) if store and self._presence else None
        )

    def _begin(self) -> None:
        """Do what a pool's new process does; with SnapStart, in each restored environment."""
        self._send_events()
        worker = self._worker
        signals.worker_process_init.send(sender=worker.consumer.hostname)
        signals.worker_ready.send(sender=worker.consumer)
        if self._presence is not None:
            with within(_INIT_S):
                self._presence.enlist()

    def _send_events(self) -> None:
        app, worker = self._app, self._worker
        if app.conf.worker_send_task_events:
            from twolane.worker import events

            dispatcher = events.worker_dispatcher(app, worker.consumer.hostname)
            if dispatcher is not None:
                worker.consumer.event_dispatcher = dispatcher
                events.tell_alive(dispatcher, "worker-online")

    def _settle_settings(self) -> None:
        """Open again if the handler's module has configured the application after the handler: a
        ``celery worker`` starts once the module is imported.
        """
        self._read_again = False
        if _settings(self._app) != self._settings:
            refuse_rpc(self._app)
            self._open(self._worker.consumer.hostname)
            self._send_events()

    def _restored(self) -> None:
        consumer = self._worker.consumer
        consumer.rename(self._named or node_name(self._environ))
        trace.setup_worker_optimizations(self._app, consumer.hostname)
        self._begin()

    @ends_in_child
    def __call__(self, event: dict[str, Any], context: Any = None) -> dict[str, Any]:
        """Run one batch. Raises ``ConfigurationError`` for an event that is not from SQS."""
        records = parse_event(event)
        if self._read_again:
            self._settle_settings()
        _take_over(self._app, self._worker.consumer.hostname)
        token = logs.correlation.set(_request(context))
        deadline = deadline_of(context)
        ends = invocation_end.set(deadline.at if deadline is not None else None)
        # Celery refuses to wait for a result inside a task. Its flag is the whole process's, so it
        # is left alone where the worker is only a guest in one: the emulator's threads.
        joining: Any = _state
        blocked = joining.task_join_will_block()
        if threading.current_thread() is threading.main_thread():
            joining._set_task_join_will_block(True)  # noqa: SLF001 - Celery's pools do the same
        try:
            if self._watch is not None:
                self._watch.wake(context.each if isinstance(context, Waits) else None)
            if self._worker.consumer.event_dispatcher is not None:
                from twolane.worker import events

                events.tell_alive(self._worker.consumer.event_dispatcher)
            announce = self._presence.begin_batch if self._presence is not None else lambda _: None
            delays = self._long_delays
            with postponing(delays, records) if delays is not None else nullcontext():
                settled = self._worker.run(records, deadline, announce)
            # When each returned message is to come back.
            by_queue: dict[str, list[tuple[str, int]]] = {}
            for one in settled:
                wait_s, record = visibility_s(one), one.record
                if wait_s is not None and record.queue_arn and record.receipt_handle:
                    changes = by_queue.setdefault(record.queue_arn, [])
                    changes.append((record.receipt_handle, wait_s))
            for queue_arn, changes in by_queue.items():
                self._queues.change_visibility(queue_arn, changes)
            return response(settled)
        finally:
            if self._watch is not None and self._presence is not None:
                self._watch.rest()
                self._presence.end_batch()
            joining._set_task_join_will_block(blocked)  # noqa: SLF001
            logs.flush(left_s())
            invocation_end.reset(ends)
            logs.correlation.reset(token)


def _prepare(app: Celery, hostname: str) -> None:
    """Prepare the application as ``celery worker`` does before it consumes."""
    _read_nothing(app)
    signals.celeryd_init.send(sender=hostname, instance=None, conf=app.conf, options={})
    app.loader.init_worker()
    _set_up_logging(app)
    _take_over(app, hostname)


def _set_up_logging(app: Celery) -> None:
    """Send Celery's signals about logging. Its own handlers, formats and redirection of stdout are
    left out: Lambda's log has a handler, and what the application has set stays.
    """
    from celery.utils.log import task_logger

    root = logging.getLogger()
    told = {
        "sender": None,
        "loglevel": root.getEffectiveLevel(),
        "logfile": None,
        "colorize": False,
    }
    if signals.setup_logging.send(format=app.conf.worker_log_format, **told):
        return  # the application has done it, as in a stock worker
    signals.after_setup_logger.send(logger=root, format=app.conf.worker_log_format, **told)
    signals.after_setup_task_logger.send(
        logger=task_logger, format=app.conf.worker_task_log_format, **told
    )


def _read_nothing(app: Celery) -> None:
    # Nothing is read from a broker here; with the real one set, Celery's consumer would import
    # boto3 and kombu's SQS transport to learn their exceptions (a hundred milliseconds).
    app.conf.update(broker_read_url="memory://")


def _settings(app: Celery) -> str:
    """The settings that are read when the handler is made, as a text to compare."""
    conf: Any = app.conf
    named = [conf.get(name) for name in ("twolane_state_store", "twolane_max_body_size")]
    return repr([
        *named, conf.get("broker_read_url"), conf.result_backend, conf.result_expires,
        conf.accept_content, conf.broker_transport_options, conf.worker_disable_rate_limits,
        conf.worker_send_task_events, conf.get("twolane_max_depth"),
        conf.get("twolane_max_depth_rate"),
    ])  # fmt: skip


def _take_over(app: Celery, hostname: str) -> None:
    """Make the application the process's own; another handler may have worked in between."""
    registry: Any = vars(app).get("_tasks")
    tracing: Any = trace
    localized = tracing._localized  # noqa: SLF001 - where Celery keeps whose worker this is
    if not localized or localized[0] is not registry:
        trace.setup_worker_optimizations(app, hostname)


def _keep_s(app: Celery) -> float:
    """How long finished work is remembered: as long as its result, an hour at least."""
    expires = app.conf.result_expires
    seconds = expires.total_seconds() if hasattr(expires, "total_seconds") else expires
    return max(3600.0, float(seconds or 0) or 86_400.0)


def _request(context: Any) -> dict[str, str]:
    request_id = getattr(context, "aws_request_id", None)
    return {"requestId": request_id} if request_id else {}


def node_name(environ: Mapping[str, str]) -> str:
    """``celery@FUNCTION-ENVIRONMENT`` on Lambda, ``celery@HOST-PID`` elsewhere.

    Lambda gives each execution environment a log stream of its own. Its name ends in the
    environment's id, ``DATE/[VERSION]ID``, or ``DATE/FUNCTION[VERSION][ID]`` in a log group of
    one's own: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-loggroups.html

    An environment of Managed Instances has several processes:
    https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-python-runtime.html
    """
    function = environ.get("AWS_LAMBDA_FUNCTION_NAME")
    if not function:
        return f"celery@{socket.gethostname()}-{os.getpid()}"
    stream = environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
    # Every environment has the same few process ids: where it has no id, one is made up.
    place = re.split(r"[\[\]/]", stream.rstrip("]"))[-1] or os.urandom(8).hex()
    process = f"-{os.getpid()}" if environ.get("AWS_LAMBDA_MAX_CONCURRENCY") else ""
    return f"celery@{function}-{place}{process}"
