"""The extensions of one execution environment: who registered, and who waits for the next event.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local import runtime_api

if TYPE_CHECKING:
    from twolane_local.environments import Work
    from twolane_local.model import FunctionSpec
    from twolane_local.runtime_api import Reply


@dataclass(slots=True)
class _Extension:
    name: str
    events: tuple[str, ...]
    waiting: Reply | None = None


class Extensions:
    """Registered during init, told of each invocation, waited for before the freeze."""

    def __init__(self, spec: FunctionSpec) -> None:
        self._spec = spec
        self._by_id: dict[str, _Extension] = {}

    def __bool__(self) -> bool:
        return bool(self._by_id)

    @property
    def settled(self) -> bool:
        """Every one of them waits for the next event."""
        return all(extension.waiting is not None for extension in self._by_id.values())

    def register(self, name: str, events: list[str], reply: Reply, *, closed: bool) -> None:
        """Take one in, or refuse it; ``closed`` once the runtime has asked for an invocation.

        One in the runtime's own process may ask for INVOKE alone.
        """
        if closed:
            runtime_api.refuse(
                reply, 403, "Extension.RegistrationClosed", "Extension registration closed already"
            )
            return
        if any(event != "INVOKE" for event in events):
            runtime_api.refuse(
                reply,
                403,
                "ShutdownEventNotSupportedForInternalExtension",
                "Cannot register internal extension for SHUTDOWN event",
            )
            return
        identifier = str(uuid.uuid4())
        self._by_id[identifier] = _Extension(name, tuple(events))
        body = {
            "functionName": self._spec.name,
            "functionVersion": "$LATEST",
            "handler": self._spec.handler,
        }
        reply.send(200, json.dumps(body).encode(), _identifier_header(identifier))

    def next(self, identifier: str, reply: Reply) -> bool:
        """One is done with the last event; tells whether it is known."""
        extension = self._by_id.get(identifier)
        if extension is None:
            runtime_api.refuse(
                reply, 403, "Extension.InvalidExtensionIdentifier", "Invalid extension identifier"
            )
            return False
        extension.waiting = reply
        return True

    def tell(self, work: Work) -> None:
        """Send INVOKE to those that asked for it."""
        if not self._by_id:
            return
        event = json.dumps(
            {
                "eventType": "INVOKE",
                "deadlineMs": work.deadline_ms,
                "requestId": work.request_id,
                "invokedFunctionArn": work.invoked_arn or self._spec.arn,
                "tracing": {"type": "X-Amzn-Trace-Id", "value": work.trace_id},
            }
        ).encode()
        for identifier, extension in self._by_id.items():
            if "INVOKE" in extension.events and extension.waiting is not None:
                waiting, extension.waiting = extension.waiting, None
                waiting.send(200, event, _identifier_header(identifier))


def _identifier_header(identifier: str) -> bytes:
    return b"Lambda-Extension-Identifier: %s\r\n" % identifier.encode()
