"""Celery's share of a snapshot: its pools are closed before it, its ids are new after it.

Credentials are then not in the environment, so kombu's own SQS transport publishes, by boto3. Both
are imported for the snapshot, where it costs no request anything.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import Any

from twolane.environment import snapshot
from twolane.patches.publishing import on_sqs


def install() -> None:
    """For every Celery application of the process. Idempotent."""
    if not _installed:
        _installed.append(True)
        snapshot.before_snapshot(close)
        snapshot.after_restore(renew)


_installed: list[bool] = []


def close() -> None:
    """Close what kombu and Celery keep open: connections, producers, result backends."""
    pools: Any = sys.modules.get("kombu.pools")
    if pools is not None:
        pools.reset()
    for app in _applications():
        backend = app._backend  # noqa: SLF001 - the property would make one
        if backend is not None and not hasattr(type(backend), "let_go"):
            close_backend(backend)
            app._backend_cache = None  # noqa: SLF001 - where Celery keeps it
        if on_sqs(app):
            from kombu.transport import SQS  # noqa: F401
    session = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
    if session is not None:
        forget_credentials(session._session)  # noqa: SLF001 - botocore's, in boto3's


def close_backend(backend: Any) -> None:
    """Close what a result backend has open; it is not to be used again."""
    consumer: Any = getattr(backend, "result_consumer", None)
    if getattr(consumer, "_pubsub", None) is not None:
        consumer.on_after_fork()
    # Neither is made where it is not there: redis-py's, with all of its pool, and boto3's.
    for name in ("client", "_client"):
        client = vars(backend).get(name)
        pool = getattr(client, "connection_pool", None)
        if pool is not None:
            pool.disconnect()
        elif hasattr(client, "close"):
            client.close()
    sessions: Any = vars(backend).get("session_manager")
    for engine in vars(sessions)["_engines"].values() if sessions is not None else ():
        engine.dispose()
    mongo = vars(backend).get("_connection")
    if mongo is not None:
        mongo.close()
        backend._connection = None  # noqa: SLF001 - as the backend itself begins
    vars(backend).pop("client", None)
    if vars(backend).get("_client") is not None:
        backend._client = None  # noqa: SLF001 - as the backend itself begins


def forget_credentials(session: Any) -> None:
    """Have a botocore session ask anew for what its container's endpoint gave it, and keeps with
    the connection; earlier clients renew theirs once they expire.
    """
    session._credentials = None  # noqa: SLF001 - as it begins
    from botocore.exceptions import UnknownCredentialError

    with suppress(UnknownCredentialError, AttributeError):  # without that provider, or another's
        provider = session.get_component("credential_provider").get_provider("container-role")
        provider._fetcher._session.close()  # noqa: SLF001


def renew() -> None:
    """New ids: two environments with one id would be one to whoever hears from them."""
    common: Any = sys.modules.get("kombu.common")
    if common is not None:
        common._node_id = None  # noqa: SLF001 - kombu's cache of a random number
    for app in _applications():
        app._after_fork()  # noqa: SLF001 - Celery's own way to be another process
        app._local = threading.local()  # noqa: SLF001 - the id of a thread, and its backend
        vars(app).pop("oid", None)
        amqp = vars(app).get("amqp")
        if amqp is not None:
            vars(amqp).pop("_event_dispatcher", None)


def _applications() -> list[Any]:
    state: Any = sys.modules.get("celery._state")
    return [] if state is None else list(state._get_active_apps())  # noqa: SLF001 - no public list
