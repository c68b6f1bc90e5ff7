"""What a run changes in this process and puts back: time, chance, the ways out of a handler."""

from __future__ import annotations

import functools
import logging
import os
import random
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery.worker import state as worker_state
from kombu import common, pools
from kombu.utils import functional
from redis import retry, utils

from twolane.publish import client as publish_client
from twolane.worker import revocation as watch
from twolane_local.journal import KINDS
from twolane_local.simulator.wire import LocalWire
from twolane_local.testing import patches
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery

    from twolane_local.simulator.host import Host

#: redis-py reads its package's metadata for each client anew.
_lib_version = functools.cache(utils.get_lib_version)


class JournalHandler(logging.Handler):
    """The runtime's events, straight into the journal; a dead environment says nothing."""

    def __init__(self, world: Host) -> None:
        super().__init__(logging.INFO)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = current.get()
        if process is not None and process.dead:
            return
        self._world.logged(record)


@contextmanager
def patched(world: Host, celery: Celery) -> Iterator[None]:
    """Everything of the block belongs to ``world``. One at a time in a process."""
    common.get_node_id()  # drawn once in a process: it is none of a run's ids
    with ExitStack() as undo:
        for target, name, value in _replacements(world):
            undo.enter_context(mock.patch.object(target, name, value))
        undo.enter_context(patches.virtual_waits(world.virtual))
        # A frozen machine looks at nothing, and no look twice a second finds what a run could miss.
        undo.enter_context(mock.patch.object(watch.Watch, "wake", _nothing))
        undo.enter_context(_sleeps())
        undo.enter_context(_logs(world))
        undo.callback(random.setstate, random.getstate())
        random.seed(world.seed)
        undo.callback(_no_backend, celery)
        _no_backend(celery)
        undo.enter_context(_own_connections(celery))
        for known in (worker_state.revoked, worker_state.active_requests,
                      worker_state.reserved_requests):  # fmt: skip
            known.clear()
        yield


def _nothing(_: Any) -> None:
    """Nobody wakes it."""


def _no_backend(celery: Celery) -> None:
    """The next one who wants a result backend makes one, on this run's store."""
    vars(celery)["_backend_cache"] = None
    vars(celery)["_local"].__dict__.pop("backend", None)


@contextmanager
def _own_connections(celery: Celery) -> Iterator[None]:
    """What publishes makes a connection anew: which one it takes of several must not depend on the
    run before. Afterwards, other applications of the process have theirs again.
    """
    kept = [dict(each) for each in (pools.producers, pools.connections)]
    pool = vars(celery).get("_pool")
    _forget(celery, [{}, {}], None)
    try:
        yield
    finally:
        _forget(celery, kept, pool)


def _forget(celery: Celery, instead: list[dict[Any, Any]], pool: Any) -> None:
    for each, kept in zip((pools.producers, pools.connections), instead, strict=True):
        each.clear()
        each.update(kept)
    vars(celery)["_pool"] = pool
    if "amqp" in vars(celery):
        vars(vars(celery)["amqp"])["_producer_pool"] = None


def _replacements(world: Host) -> Iterator[tuple[Any, str, Any]]:
    yield os, "urandom", world.random_bytes
    yield LocalWire, "queues", world.queues
    yield LocalWire, "scheduler", world.scheduler
    yield LocalWire, "faults", world.faults
    yield LocalWire, "called", staticmethod(world.called)
    yield publish_client, "Wire", LocalWire
    yield from world.store.replacements()
    for module in (functional, retry):  # they have a name of their own for time.sleep
        yield module, "sleep", patches.sleep
    yield utils, "get_lib_version", _lib_version


@contextmanager
def _sleeps() -> Iterator[None]:
    """``time.sleep`` as a default argument was bound before anybody could replace it."""
    from twolane.worker.work import Worker

    sleep: Any = lambda seconds: time.sleep(seconds)  # noqa: E731, PLW0108 - looked up anew
    undo = []
    for function in (publish_client.SqsClient.__init__, Worker.__init__):
        defaults: dict[str, Any] = function.__kwdefaults__ or {}
        undo.append((defaults, defaults["sleep"]))
        defaults["sleep"] = sleep
    try:
        yield
    finally:
        for defaults, value in undo:
            defaults["sleep"] = value


@contextmanager
def _logs(world: Host) -> Iterator[None]:
    """The runtime's log goes to the journal; Celery's and the application's nowhere."""
    handler = JournalHandler(world)
    changed = [(logging.getLogger(name), name) for name in ("twolane", "celery", "app")]
    before = [(log, log.level, log.propagate) for log, _ in changed]
    for log, name in changed:
        log.propagate = False
        log.setLevel(logging.INFO if name == "twolane" else logging.CRITICAL)
    changed[0][0].addHandler(handler)
    try:
        yield
    finally:
        changed[0][0].removeHandler(handler)
        for log, level, propagate in before:
            log.setLevel(level)
            log.propagate = propagate


def event_of(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """A log record's journal kind and fields."""
    fields = dict(getattr(record, "twolane", {}))
    kind = str(fields.pop("event", "log"))
    if kind not in KINDS:
        kind = "log"
    if kind == "log":
        fields["line"] = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            fields["error"] = repr(record.exc_info[1])
    return kind, fields
