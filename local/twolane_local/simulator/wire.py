"""SQS for the runtime's light client, without a socket: a request goes to the run's queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane.publish.connection import Response
from twolane_local.aws.call import AwsRequest
from twolane_local.aws.sqs import actions
from twolane_local.aws.sqs.errors import SqsError
from twolane_local.testing.aws import at_once
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.scheduler.api import SchedulerApi
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.faults.injection import Faults

_ACTIONS: dict[str, Callable[[QueueService, dict[str, Any]], dict[str, Any]]] = {
    "SendMessage": actions.send_message,
    "SendMessageBatch": actions.send_message_batch,
    "DeleteMessageBatch": actions.delete_message_batch,
    "ChangeMessageVisibilityBatch": actions.change_message_visibility_batch,
}


class LocalWire:
    """Stands for ``twolane.publish.connection.Wire``."""

    #: The queues of the run that is under way.
    queues: QueueService | None = None
    #: Its EventBridge Scheduler.
    scheduler: SchedulerApi | None = None
    #: What goes wrong with it.
    faults: Faults | None = None
    #: Hears of each call that was carried out, before its answer is read.
    called: Callable[[str], object] = staticmethod(lambda _: None)

    def __init__(self, *_: object, **__: object) -> None:
        """Whatever the endpoint."""

    def post(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_s: float,  # noqa: ARG002
        path: str = "/",
    ) -> Response:
        """One call; a connection that breaks is an ``OSError``, as on a real wire."""
        if (process := current.get()) is not None:
            process.check()
        if self.queues is None:
            raise ConnectionRefusedError("no run is under way")
        if path != "/":
            return self._schedule(path, body)
        action = headers["x-amz-target"].rpartition(".")[2]
        try:
            answer = _ACTIONS[action](self.queues, json.loads(body))
        except SqsError as error:
            if error.code == "RequestTimeout":
                raise TimeoutError("timed out") from error
            said = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.message}
            return Response(400, json.dumps(said).encode(), reusable=True)
        self.called(action)
        return Response(200, json.dumps(answer).encode(), reusable=True)

    def _schedule(self, path: str, body: bytes) -> Response:
        assert self.scheduler is not None  # noqa: S101 - a run has one
        request = AwsRequest("POST", path, body=body, service="scheduler")
        if self._happens("schedule"):
            raise ConnectionResetError("Connection reset by peer")
        answer = at_once(self.scheduler(request))
        self.called("CreateSchedule")
        if self._happens("schedule.done"):
            raise TimeoutError("timed out")
        return Response(answer.status, answer.body, reusable=True)

    def _happens(self, point: str) -> bool:
        return self.faults is not None and bool([*self.faults.at(point, "CreateSchedule")])

    def close(self) -> None:
        """Nothing is open."""
