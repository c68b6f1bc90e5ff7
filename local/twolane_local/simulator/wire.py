"""SQS for the runtime's light client, without a socket: a request goes to the run's queues."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane.publish.response import Response
from twolane_local.queues import actions_message as actions
from twolane_local.queues.errors import SqsError
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.queues.core import QueueService

_ACTIONS: dict[str, Callable[[QueueService, dict[str, Any]], dict[str, Any]]] = {
    "SendMessage": actions.send_message,
    "SendMessageBatch": actions.send_message_batch,
    "DeleteMessageBatch": actions.delete_message_batch,
    "ChangeMessageVisibilityBatch": actions.change_message_visibility_batch,
}


class LocalWire:
    """Stands for ``twolane.publish.wire.Wire``."""

    #: The queues of the run that is under way.
    queues: QueueService | None = None

    def __init__(self, *_: object, **__: object) -> None:
        """Whatever the endpoint."""

    def post(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        timeout_s: float,  # noqa: ARG002
        path: str = "/",  # noqa: ARG002
    ) -> Response:
        """One call; a connection that breaks is an ``OSError``, as on a real wire."""
        if (process := current.get()) is not None:
            process.check()
        if self.queues is None:
            raise ConnectionRefusedError("no run is under way")
        action = headers["x-amz-target"].rpartition(".")[2]
        try:
            answer = _ACTIONS[action](self.queues, json.loads(body))
        except SqsError as error:
            if error.code == "RequestTimeout":
                raise TimeoutError("timed out") from error
            said = {"__type": f"com.amazonaws.sqs#{error.code}", "message": error.message}
            return Response(400, json.dumps(said).encode(), reusable=True)
        return Response(200, json.dumps(answer).encode(), reusable=True)

    def close(self) -> None:
        """Nothing is open."""
