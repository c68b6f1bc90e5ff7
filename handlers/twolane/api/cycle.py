"""One HTTP request, from its scope to its response, and on to the end of the ASGI call.

Mangum's cycle is over when the ASGI call returns, so a background task delays its own response.
Here the response is complete with the last body message; the application then waits in that last
``send`` until whoever drives the loop releases it.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError, get_running_loop
from typing import TYPE_CHECKING

from mangum.exceptions import UnexpectedMessage

from twolane.environment.logs import emit

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from mangum.types import ASGI, Headers, Message, Response, Scope

    from twolane.api.inline import Lane

#: Mangum's own name, so that a level set for it holds here too.
logger = logging.getLogger("mangum.http")
failures = logging.getLogger("twolane.api")


class Cycle:
    """``hold`` keeps the application in its last ``send`` until ``release``. ``stop`` is called
    when the loop's driver has to look: the held response is complete, or the ASGI call is over.
    """

    def __init__(
        self, scope: Scope, body: bytes, *, lane: Lane, stop: Callable[[], None], hold: bool
    ) -> None:
        self.answered = False
        self._scope = scope
        self._request: bytes | None = body
        self._lane = lane
        self._stop = stop
        self._hold = hold
        self._status: int | None = None
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._released: Future[None] | None = None
        self._disconnected: Future[None] | None = None

    @property
    def response(self) -> Response:
        """The application's answer, once it is there."""
        status = 500 if self._status is None else self._status
        return {"status": status, "headers": self._headers, "body": b"".join(self._parts)}

    def release(self) -> None:
        """Let the application go on after its response. Only in the thread that drives."""
        self._hold = False
        if self._released is not None and not self._released.done():
            self._released.set_result(None)

    async def run(self, app: ASGI) -> None:
        """Run the whole ASGI call; what the application raises must not break the next request."""
        try:
            await app(self._scope, self._receive, self._send)
        except CancelledError:
            self._abort("the ASGI call was cancelled before it answered")
            raise
        except BaseException as exc:  # noqa: BLE001
            if self.answered:
                self._fail(exc)
            else:
                self._abort(repr(exc), exc)
        else:
            self._abort("the ASGI call returned without completing its response")
        finally:
            self._lane.end()
            self._stop()

    async def _receive(self) -> Message:
        if self._request is not None:
            body, self._request = self._request, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.answered:
            self._disconnected = self._disconnected or get_running_loop().create_future()
            await self._disconnected
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self.answered or kind != (
            "http.response.start" if self._status is None else "http.response.body"
        ):
            raise UnexpectedMessage(f"Unexpected {kind}")
        if self._status is None:
            self._status = message["status"]
            self._headers = message.get("headers", [])
            return
        self._parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        self._settle()
        if self._hold:
            self._stop()
            self._released = get_running_loop().create_future()
            await self._released

    def _settle(self) -> None:
        self.answered = True
        if self._disconnected is not None and not self._disconnected.done():
            self._disconnected.set_result(None)
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s %s %s", self._scope["method"], self._scope["path"], self._status)

    def _fail(self, exc: BaseException) -> None:
        """The call raised after its response. Starlette sends its 500 first, and raises the
        endpoint's exception then; of an exit of a ``yield`` dependency, the response has long left.
        A background task's failure is not the request's, and its lane has told it.
        """
        if not self._lane.has_told(exc):
            ends = "failed" if self.response["status"] >= 500 else "answered, then failed"
            self._tell(f"{ends}: {exc!r}", exc)

    def _tell(self, what: str, exc: BaseException | None) -> None:
        scope, status = self._scope, self.response["status"]
        emit(
            failures,
            "request.failed",
            f"! {status} {scope['method']} {scope['path']} {what}",
            level=logging.ERROR,
            exc_info=exc,
            requestId=self._lane.request_id,
            method=scope["method"],
            path=scope["path"],
            status=status,
        )

    def _abort(self, why: str, exc: BaseException | None = None) -> None:
        if self.answered:
            return
        self._status = 500
        self._tell(f"failed: {why}", exc)
        self._headers = [[b"content-type", b"text/plain; charset=utf-8"]]
        self._parts = [b"Internal Server Error"]
        self._settle()
