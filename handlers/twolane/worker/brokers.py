"""Which broker an application has, without asking kombu."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery


def on_sqs(app: Celery) -> bool:
    url: Any = app.conf.broker_write_url
    return str(url[0] if isinstance(url, list | tuple) else url).startswith("sqs")
