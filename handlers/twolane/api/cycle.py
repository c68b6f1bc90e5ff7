"""One HTTP request, from its scope to its response, and on to the end of the ASGI call.

Mangum's cycle is over when the ASGI call returns, so a background task delays its own response.
Here the response is complete with the last body message; the application then waits in that last
``send`` until whoever drives the loop releases it.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from mangum.protocols.http import HTTPCycle, HTTPCycleState

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from mangum.types import ASGI, Message, Response, Scope

    from twolane.api.inline import Lane

logger = logging.getLogger("twolane.api")

_INTERNAL_SERVER_ERROR: dict[str, Any] = {
    "status": 500,
    "headers": [[b"content-type", b"text/plain; charset=utf-8"]],
    "body": b"Internal Server Error",
}


class Cycle(HTTPCycle):
    """``hold`` keeps the application in its last ``send`` until ``release``."""

    def __init__(
        self,
        scope: Scope,
        body: bytes,
        loop: AbstractEventLoop,
        *,
        hold: bool,
        lane: Lane,
    ) -> None:
        super().__init__(scope, body)
        self.responded: Future[None] = loop.create_future()
        self._gate: Future[None] | None = loop.create_future() if hold else None
        self._lane = lane

    @property
    def response(self) -> Response:
        """What the application answered; only once ``responded`` is done."""
        return {"status": self.status, "headers": self.headers, "body": self.body}

    def release(self) -> None:
        """Let the application go on after its response. Only from the thread that drives."""
        if self._gate is not None and not self._gate.done():
            self._gate.set_result(None)

    async def run(self, app: ASGI) -> None:
        """Run the whole ASGI call. Never raises: a request must not break the next one."""
        try:
            await app(self.scope, self.receive, self.send)
        except CancelledError:
            self._abort("The ASGI call was cancelled before it answered.", None)
            raise
        except BaseException as exc:  # noqa: BLE001
            if self.state is HTTPCycleState.COMPLETE:
                self._lane.failed(exc)
            else:
                self._abort("An error occurred running the application.", exc)
        else:
            self._abort("The ASGI call returned without completing its response.", None)
        finally:
            self._lane.end()

    async def send(self, message: Message) -> None:
        await super().send(message)
        if self.state is HTTPCycleState.COMPLETE:
            self._settle()
            if self._gate is not None:
                await self._gate

    def _abort(self, why: str, exc: BaseException | None) -> None:
        if self.state is HTTPCycleState.COMPLETE:
            return
        self.logger.error(why, exc_info=exc)
        self.status = _INTERNAL_SERVER_ERROR["status"]
        self.headers = _INTERNAL_SERVER_ERROR["headers"]
        self.body = _INTERNAL_SERVER_ERROR["body"]
        self.state = HTTPCycleState.COMPLETE
        self._settle()

    def _settle(self) -> None:
        if not self.responded.done():
            self.responded.set_result(None)
