"""The seam at SQS: a ``QueueService`` whose calls go wrong as armed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local.faults.bodies import BODIES
from twolane_local.queues.core import QueueService
from twolane_local.queues.errors import ServiceUnavailableError, SqsError

if TYPE_CHECKING:
    from twolane_local.faults.injection import Faults
    from twolane_local.queues.core import NewMessage
    from twolane_local.queues.message import Message, Received


class RequestTimeoutError(SqsError):
    """The request took too long; whether it was carried out is not known."""

    code = query_code = "RequestTimeout"
    query_status = 503


class FaultyQueues(QueueService):
    """As ``QueueService``; without ``faults`` it costs one look a call."""

    faults: Faults | None = None

    def send(self, name: str, new: NewMessage) -> Message:
        lost = False
        for fault in self._at("send", name):
            match fault.fault.name:
                case "send.failed":
                    raise ServiceUnavailableError
                case "send.reply-lost":
                    lost = True
                case "queue.reordered":
                    hold = max(new.delay_s or 0, fault.value("hold_s"))
                    new = replace(new, delay_s=hold)
                case spoiled:
                    new = replace(new, body=BODIES[spoiled](new.body))
        message = super().send(name, new)
        if lost:
            raise RequestTimeoutError
        return message

    def receive(
        self,
        name: str,
        limit: int = 1,
        *,
        visibility_s: float | None = None,
        attempt_id: str | None = None,
    ) -> list[Received]:
        def take() -> list[Received]:
            return super(FaultyQueues, self).receive(
                name, limit, visibility_s=visibility_s, attempt_id=attempt_id
            )

        with self._lock:
            if self.faults is None or not self.settled(name).ready():
                return take()  # a poll that finds nothing is no occasion
            happening = {fault.fault.name for fault in self._at("receive", name)}
            if "receive.failed" in happening:
                raise ServiceUnavailableError
            handed = take()
            if "receive.reply-lost" in happening:
                raise RequestTimeoutError
            if "queue.two-deliveries-at-once" in happening:
                for received in handed:
                    super().change_visibility(name, received.receipt_handle, 0)
            return handed

    def delete(self, name: str, receipt_handle: str) -> bool:
        lost = False
        for fault in self._at("delete", name):
            match fault.fault.name:
                case "delete.failed":
                    raise ServiceUnavailableError
                case "delete.reply-lost":
                    lost = True
                case _:  # queue.duplicate-delivery: a server kept its copy
                    super().change_visibility(name, receipt_handle, int(fault.value("after_s")))
                    return True
        gone = super().delete(name, receipt_handle)
        if lost:
            raise RequestTimeoutError
        return gone

    def change_visibility(self, name: str, receipt_handle: str, seconds: int) -> None:
        if self._at("visibility", name):
            raise ServiceUnavailableError
        super().change_visibility(name, receipt_handle, seconds)

    def _at(self, point: str, name: str) -> Any:
        return () if self.faults is None else self.faults.at(point, name)
