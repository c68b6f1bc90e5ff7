"""Calls the emulator's endpoint from moto's process: the queues and functions are there."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping

_SEND = {"X-Amz-Target": "AmazonSQS.SendMessage", "Content-Type": "application/x-amz-json-1.0"}


class Emulator:
    """Sends messages to queues and invokes functions."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def send(self, queue: str, body: str, named: Mapping[str, Any]) -> None:
        call = {
            "QueueUrl": f"{self.endpoint}/{ACCOUNT}/{queue}",
            "MessageBody": body,
            "MessageAttributes": attributes_of(named.get("message_attributes") or {}),
            "DelaySeconds": named.get("delay_seconds"),
            "MessageDeduplicationId": named.get("deduplication_id"),
            "MessageGroupId": named.get("group_id"),
        }
        given = {name: value for name, value in call.items() if value}
        self._post("/", json.dumps(given), _SEND)

    def invoke(self, function_arn: str, event: str) -> None:
        """Invoke a function asynchronously; its ARN may end with a version or alias."""
        name = quote(function_arn.partition(":function:")[2] or function_arn, safe=":$")
        path = f"/2015-03-31/functions/{name}/invocations"
        self._post(path, event, {"X-Amz-Invocation-Type": "Event"})

    def deliver(self, source: str, arn: str, text: str, **options: Any) -> None:
        """Send ``text`` to the function or queue ``arn``; failures are logged, not raised.

        ``dead_letter_arn`` is the queue for a refused message, ``why`` are the attributes that the
        message has there, and ``named`` the attributes for ``send``.
        """
        try:
            if ":lambda:" in arn:
                self.invoke(arn, text)
            else:
                self.send(arn.rpartition(":")[2], text, options.get("named") or {})
        except OSError as error:
            code, message = _code_and_message(error)
            dead = options.get("dead_letter_arn")
            end = f"it is on {dead.rpartition(':')[2]}" if dead else "it is lost"
            log(f"{source}: {arn} refused a message ({code}: {message}); {end}")
            if dead:
                why = {**(options.get("why") or {}), "ERROR_CODE": code, "ERROR_MESSAGE": message}
                attributes = {
                    name: {"Type": "String", "Value": value} for name, value in why.items() if value
                }
                self.deliver(source, dead, text, named={"message_attributes": attributes})

    def _post(self, path: str, text: str, headers: dict[str, str]) -> None:
        call = urllib.request.Request(  # noqa: S310 (the emulator's own address)
            self.endpoint + path, text.encode(), headers
        )
        with urllib.request.urlopen(call, timeout=30):  # noqa: S310
            pass


def log(line: str) -> None:
    """Write a line to the terminal of the emulator."""
    sys.stderr.write(f"twolane: {line}\n")


def _code_and_message(error: OSError) -> tuple[str, str]:
    """The error code and message of an AWS service."""
    if not isinstance(error, urllib.error.HTTPError):
        return "SDK_CLIENT_ERROR", str(error)
    try:
        body = json.loads(error.read())
    except ValueError:
        body = {}
    code = error.headers.get("x-amzn-errortype") or str(body.get("__type", error.code))
    message = body.get("message") or body.get("Message") or error.reason
    return code.rpartition("#")[2], str(message)


def attributes_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Message attributes as the API has them, from those of moto."""
    found: dict[str, Any] = {}
    for name, value in attributes.items():
        kind = value.get("data_type", value.get("DataType", value.get("Type", "String")))
        binary = str(kind).startswith("Binary")
        names = ("binary_value", "BinaryValue") if binary else ("string_value", "StringValue")
        content = next((value[each] for each in (*names, "Value") if each in value), "")
        text = content.decode() if isinstance(content, bytes) else str(content)
        found[name] = {"DataType": kind, names[1]: text}
    return found
