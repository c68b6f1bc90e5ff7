"""A task's message as ``.delay()`` writes it, for a task of which only the name is known here."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def task_message(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str = "celery",
    task_id: str | None = None,
    countdown: float | None = None,
    **options: Any,
) -> tuple[str, str]:
    """The task's id, and its message as SQS takes it in ``MessageBody``.

    Celery makes it, through its transport in memory: the envelope on an ``sqs://`` broker is the
    same. ``queue`` is Celery's name of the queue, ``countdown`` is in seconds; ``options`` are
    those of ``Celery.send_task``. What a task declares for itself (``expires``, ``priority`` …) is
    known to the application alone.
    """
    from celery import Celery
    from kombu.utils.json import dumps

    identifier = task_id or str(uuid.uuid4())
    own = f"{queue}-{identifier}"  # queues in memory are shared by the whole process
    app = Celery("twolane", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="json", accept_content=["json"])
    with app.connection_for_write() as connection:
        app.send_task(
            name, tuple(args), dict(kwargs or {}), task_id=identifier, countdown=countdown,
            connection=connection, queue=own, **options,
        )  # fmt: skip
        channel: Any = connection.default_channel
        message = channel._get(own)  # noqa: SLF001 - how a virtual channel takes a message
        channel._delete(own)  # noqa: SLF001
    message["properties"]["delivery_info"]["routing_key"] = queue
    return identifier, str(dumps(message))
