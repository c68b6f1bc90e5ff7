"""The SQS API: one call in, one answer out, in the JSON protocol or the older query protocol."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from twolane_local.queues import actions_message as message
from twolane_local.queues import actions_moves as moves
from twolane_local.queues import actions_queue as queue
from twolane_local.queues import query
from twolane_local.queues.errors import (
    InvalidActionError,
    InvalidParameterValueError,
    MalformedInputError,
    SqsError,
)
from twolane_local.wire import AwsRequest, AwsResponse, trace_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.queues.core import QueueService
    from twolane_local.queues.inputs import Params

_SENDING: dict[str, Callable[[QueueService, Params, str | None], dict[str, Any]]] = {
    "SendMessage": message.send_message,
    "SendMessageBatch": message.send_message_batch,
}
_ON_MESSAGES: dict[str, Callable[[QueueService, Params], dict[str, Any]]] = {
    "DeleteMessage": message.delete_message,
    "DeleteMessageBatch": message.delete_message_batch,
    "ChangeMessageVisibility": message.change_message_visibility,
    "ChangeMessageVisibilityBatch": message.change_message_visibility_batch,
}
_ON_QUEUES: dict[str, Callable[[QueueService, Params, str], dict[str, Any]]] = {
    "CreateQueue": queue.create_queue,
    "GetQueueUrl": queue.get_queue_url,
    "ListQueues": queue.list_queues,
    "ListDeadLetterSourceQueues": queue.list_dead_letter_source_queues,
    "GetQueueAttributes": queue.get_queue_attributes,
    "SetQueueAttributes": queue.set_queue_attributes,
    "DeleteQueue": queue.delete_queue,
    "PurgeQueue": queue.purge_queue,
    "ListQueueTags": queue.list_queue_tags,
    "TagQueue": queue.tag_queue,
    "UntagQueue": queue.untag_queue,
    "AddPermission": queue.add_permission,
    "RemovePermission": queue.remove_permission,
}
#: In the JSON protocol an error that the service's model does not list has a common namespace.
_COMMON = {"InvalidParameterValueException", "MissingRequiredParameterException"}


class SqsApi:
    """Answers SQS calls from a ``QueueService``; an ``AwsService``."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues
        self._moves = moves.MoveTasks(queues)

    async def __call__(self, request: AwsRequest) -> AwsResponse:
        request_id = request.request_id or str(uuid.uuid4())
        target = request.headers.get("x-amz-target", "")
        if target:
            return await self._json(request, target.rpartition(".")[2], request_id)
        return await self._query(request, request_id)

    async def _json(self, request: AwsRequest, action: str, request_id: str) -> AwsResponse:
        headers = {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": request_id}
        try:
            try:
                params = json.loads(request.body or b"{}")
            except (ValueError, RecursionError):
                raise MalformedInputError from None
            if not isinstance(params, dict):
                raise MalformedInputError
            result = await self._act(action, params, request)
        except SqsError as error:
            # The header gives SDKs the code that the query protocol would have given.
            headers["x-amzn-query-error"] = f"{error.query_code};Sender"
            space = "com.amazon.coral.service" if error.code in _COMMON else "com.amazonaws.sqs"
            answer = {"__type": f"{space}#{error.code}", "message": error.message}
            return AwsResponse(400, json.dumps(answer).encode(), headers)
        return AwsResponse(200, json.dumps(result).encode() if result else b"{}", headers)

    async def _query(self, request: AwsRequest, request_id: str) -> AwsResponse:
        headers = {"content-type": "text/xml", "x-amzn-requestid": request_id}
        action, params = query.parse(request.query, request.body)
        # A call may go to the queue's own address instead of naming it.
        if "QueueUrl" not in params and request.path.count("/") >= 2:
            params["QueueUrl"] = request.path
        try:
            result = await self._act(action, params, request)
        except SqsError as error:
            return AwsResponse(error.query_status, query.error(error, request_id), headers)
        return AwsResponse(200, query.result(action, result, request_id), headers)

    async def _act(self, action: str, params: Params, request: AwsRequest) -> dict[str, Any]:
        try:
            if action == "ReceiveMessage":
                return await message.receive_message(self._queues, params)
            if (sending := _SENDING.get(action)) is not None:
                return sending(self._queues, params, trace_header(request.headers))
            if (on_messages := _ON_MESSAGES.get(action)) is not None:
                return on_messages(self._queues, params)
            if (on_queues := _ON_QUEUES.get(action)) is not None:
                base = f"http://{request.headers.get('host', 'localhost')}"
                return on_queues(self._queues, params, base)
            if (on_moves := self._moves.actions.get(action)) is not None:
                return on_moves(params)
        except UnicodeEncodeError:
            raise InvalidParameterValueError(
                "A string of the request holds half of a surrogate pair, which UTF-8 cannot carry."
            ) from None
        raise InvalidActionError(f"The action {action or '(none)'} is not valid for this endpoint.")
