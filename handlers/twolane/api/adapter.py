"""``ApiHandler``: Mangum, with the response first and the lifespan once."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from mangum import Mangum

from twolane import logs
from twolane.api import runtime_client
from twolane.api.cycle import Cycle
from twolane.api.lifespan import Lifespan
from twolane.api.turns import Turns

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Mapping

    from mangum.types import (
        ASGI,
        LambdaContext,
        LambdaEvent,
        LambdaHandler,
        LifespanMode,
        Response,
        Scope,
    )

    from twolane.api.extension import Extension

logger = logging.getLogger("twolane.api")


class ApiHandler(Mangum):
    """``handler = ApiHandler(app)``: a Lambda handler for any ASGI application.

    Takes what ``Mangum`` takes. Create it when the handler's module is imported: that is the init
    of the execution environment, in which the lifespan starts and the extension may register. A
    startup that fails raises here, which Lambda reports as an init error with its cause.
    """

    loop: AbstractEventLoop

    def __init__(  # noqa: PLR0917 -- Mangum's own order
        self,
        app: ASGI,
        lifespan: LifespanMode = "auto",
        api_gateway_base_path: str = "/",
        custom_handlers: list[type[LambdaHandler]] | None = None,
        text_mime_types: list[str] | None = None,
        exclude_headers: list[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            app, lifespan, api_gateway_base_path, custom_handlers, text_mime_types, exclude_headers
        )
        self._driving = threading.Lock()
        self._turns = Turns()
        self._lifespan = Lifespan(app, lifespan, self.loop)
        self._extension = self._register(os.environ if environ is None else environ)
        if not _in_a_loop():
            try:
                self._start()
            except BaseException:
                self.loop.close()
                raise

    def _setup_event_loop(self) -> None:
        # One loop of our own for the life of the environment, as under a server: what the lifespan
        # opens on it stays usable, whichever thread drives it.
        self.loop = asyncio.new_event_loop()

    def _register(self, environ: Mapping[str, str]) -> Extension | None:
        address = environ.get("AWS_LAMBDA_RUNTIME_API")
        # With several processes in one environment (Lambda managed instances) nothing is frozen
        # between invocations, and extensions get no INVOKE.
        if address is None or "AWS_LAMBDA_MAX_CONCURRENCY" in environ:
            return None
        if not runtime_client.listen(self._turns.posted):
            return None
        from twolane.api.extension import Extension

        return Extension.start(address, self._finish)

    def _start(self) -> None:
        if not self._lifespan.started:
            self._lifespan.start()

    def close(self) -> None:
        """End the lifespan and the loop; for tests and for whoever runs handlers in-process."""
        with self._driving:
            if self.loop.is_closed():
                return
            try:
                self.loop.run_until_complete(self._lifespan.stop())
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            finally:
                self.loop.close()

    def __call__(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """Answer one event: as soon as the response is complete, where an extension is there to
        finish the rest, else when the whole ASGI call is done.
        """
        handler = self.infer(event, context)
        scope = handler.scope
        with self._driving:
            self._start()
            if self._lifespan.active:
                scope["state"] = self._lifespan.state
            return handler(self._respond(scope, handler.body, context))

    def _respond(self, scope: Scope, body: bytes, context: LambdaContext) -> Response:
        hold = self._extension is not None and self._extension.alive
        cycle = Cycle(scope, body, self.loop, hold=hold, failed=self._failed)
        task = self.loop.create_task(cycle.run(self.app), context=copy_context())
        if not hold:
            self.loop.run_until_complete(task)
        else:
            self.loop.run_until_complete(cycle.responded)
            self._turns.leave(context.aws_request_id, lambda: self._drive(cycle, task))
        return cycle.response

    def _finish(self, request_id: str, deadline: float) -> None:
        work = self._turns.take(request_id, max(0.0, deadline - time.time()))
        if work is not None:
            work()

    def _drive(self, cycle: Cycle, task: Task[None]) -> None:
        with self._driving:
            cycle.release()
            self.loop.run_until_complete(task)

    def _failed(self, exc: BaseException) -> None:
        logs.emit(
            logger,
            "inline.failed",
            f"Work after the response failed: {exc!r}",
            level=logging.ERROR,
            exc_info=exc,
        )


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
