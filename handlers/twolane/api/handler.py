"""``ApiHandler``: Mangum, with the response first and the lifespan once."""

from __future__ import annotations

import logging
import os
import sys
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from mangum import Mangum

from twolane.api.applications import Wsgi, as_asgi
from twolane.api.engine import Engine
from twolane.api.events import HANDLERS, TEXT_MIME_TYPES, BadRequestError
from twolane.environment import init_phase, logs, snapshot
from twolane.environment.forks import ends_in_child
from twolane.errors import TwolaneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mangum.types import ASGI, LambdaContext, LambdaEvent, LambdaHandler, LifespanMode

logger = logging.getLogger("twolane.api")


class UnknownEventError(TwolaneError, RuntimeError):
    """The event is not an HTTP request of a source that ApiHandler serves."""


class ApiHandler(Mangum):
    """``handler = ApiHandler(app)``: a Lambda handler for any ASGI or WSGI application.

    Takes what ``Mangum`` takes, and Flask's or Django's WSGI application as well. Create it when
    the handler's module is imported: that is the init of the execution environment, in which the
    lifespan starts and the extension may register. A startup that fails raises here, which Lambda
    reports as an init error with its cause.

    ``inline_reserve_s`` seconds before the function's timeout (but not more than a quarter of it),
    background tasks that have not started are given up: deferred if they are Celery tasks, else
    logged as lost.
    """

    def __init__(  # noqa: PLR0917 -- Mangum's own order
        self,
        app: ASGI | Callable[..., Any],
        lifespan: LifespanMode = "auto",
        api_gateway_base_path: str = "/",
        custom_handlers: list[type[LambdaHandler]] | None = None,
        text_mime_types: list[str] | None = None,
        exclude_headers: list[str] | None = None,
        *,
        inline_reserve_s: float = 1.0,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._asgi = as_asgi(app)
        if isinstance(self._asgi, Wsgi):
            lifespan = "off"  # WSGI knows none
        super().__init__(
            cast("ASGI", app),
            lifespan,
            api_gateway_base_path,
            custom_handlers,
            [*TEXT_MIME_TYPES] if text_mime_types is None else text_mime_types,
            exclude_headers,
        )
        environ = os.environ if environ is None else environ
        logs.configure()
        snapshot.begin(environ)
        mangum = logging.getLogger("mangum")
        # Our log level lets INFO pass there, at which Mangum logs each request, as the access log
        # of whatever sent the event does. A level that somebody has set stays.
        if "AWS_LAMBDA_FUNCTION_NAME" in environ and mangum.level == logging.NOTSET:
            mangum.setLevel(logging.WARNING)
        self._environ = environ
        self._publisher_installed = False
        self._install_publisher()
        self._engine = Engine(self._asgi, lifespan, inline_reserve_s, environ)
        init_phase.end()

    def _setup_event_loop(self) -> None:
        """Mangum's own loop is never made: the engine has one."""

    def _install_publisher(self) -> None:
        # An application that does not know Celery pays nothing for it.
        if not self._publisher_installed and "celery" in sys.modules:
            from twolane.publish import application, install

            install()
            application.share_current()
            if "AWS_LAMBDA_FUNCTION_NAME" in self._environ:
                application.warn_of_current(self._environ)
            self._publisher_installed = True

    @ends_in_child
    def __call__(self, event: LambdaEvent, context: LambdaContext) -> dict[str, Any]:
        """Answer one event: when the response is complete, or at the end without an extension."""
        self._install_publisher()
        handler = self.infer(event, context)
        try:
            scope, body = handler.scope, handler.body
        except BadRequestError as exc:
            logger.warning("400 Bad Request: %s", exc)
            return handler.bad_request(str(exc))  # type: ignore[attr-defined, no-any-return]
        return handler(self._engine.respond(scope, body, context))

    def infer(self, event: LambdaEvent, context: LambdaContext) -> LambdaHandler:
        """The class for this event. Raises ``UnknownEventError`` if it is no HTTP source's."""
        classes: Iterable[type[Any]] = chain(self.custom_handlers, HANDLERS)
        for handler in classes:
            if handler.infer(event, context, self.config):
                chosen: LambdaHandler = handler(event, context, self.config)
                return chosen
        raise UnknownEventError(
            f"An event with the keys {sorted(event)} is not an HTTP request. ApiHandler serves "
            "HTTP API, REST API, function URL, load balancer and Lambda@Edge; pass "
            "custom_handlers for another source."
        )

    def close(self) -> None:
        """End the lifespan and the loop; for tests and for whoever runs handlers in-process."""
        self._engine.close()
        if isinstance(self._asgi, Wsgi):
            self._asgi.close()
