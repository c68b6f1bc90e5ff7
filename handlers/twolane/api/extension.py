"""The internal Lambda extension that keeps the execution environment awake after a response.

Lambda freezes an environment once the runtime *and* every extension have asked for the next event,
so a thread of this process that asks only when the left-over work is done keeps the work running
while the client already has its response.

- https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
- https://aws.amazon.com/blogs/compute/running-code-after-returning-a-response-from-an-aws-lambda-function/

An internal extension may subscribe to INVOKE only, gets no SHUTDOWN, and has to register before
the runtime's first ``next``: that is, while the handler's module is imported.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from twolane.environment.forks import ends_in_child
from twolane.environment.logs import emit
from twolane.errors import TwolaneError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("twolane.api")

_API = "/2020-01-01/extension"
#: How long to wait before each further attempt to get an event.
RETRY_S = (0.05, 0.2, 1.0)
#: How long the registration may take, in seconds.
REGISTER_S = 2.0
#: ``EX_UNAVAILABLE``: https://man.freebsd.org/cgi/man.cgi?query=sysexits
_LOST = 69


class ExtensionsApiError(TwolaneError):
    """The Extensions API refused; work then finishes before the response is returned."""


class ExtensionsApi:
    """The two calls that we need, on one kept connection to ``host:port``."""

    def __init__(self, address: str) -> None:
        self._address = address
        # Registering is answered at once; `next` when there is an invocation, which may be never.
        # Without a limit of its own a socket takes the process's default, which is whatever the
        # application has set for its own (`socket.setdefaulttimeout`).
        self._connection = HTTPConnection(address, timeout=REGISTER_S)
        self._identifier = ""

    def register(self, name: str) -> None:
        """Subscribe to INVOKE. Raises ``ExtensionsApiError``, ``OSError`` or ``HTTPException``."""
        body = json.dumps({"events": ["INVOKE"]})
        headers = {"Lambda-Extension-Name": name, "Content-Type": "application/json"}
        self._connection.request("POST", f"{_API}/register", body, headers)
        response = self._connection.getresponse()
        text = response.read()
        identifier = response.headers["Lambda-Extension-Identifier"]
        if response.status != 200 or not identifier:
            raise ExtensionsApiError(
                f"POST {_API}/register at {self._address} answered {response.status}: "
                f"{text[:200]!r}. Registration is open only until the runtime asks for its first "
                "event: create ApiHandler when the handler's module is imported."
            )
        self._identifier = identifier
        self._connection.timeout = None  # of connections that it opens from now on
        if self._connection.sock is not None:
            self._connection.sock.settimeout(None)

    def next(self) -> dict[str, Any]:
        """Block until the next INVOKE event: ``requestId``, ``deadlineMs``, ``tracing`` …"""
        headers = {"Lambda-Extension-Identifier": self._identifier}
        self._connection.request("GET", f"{_API}/event/next", headers=headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status != 200:
            raise ExtensionsApiError(
                f"GET {_API}/event/next at {self._address} answered {response.status}: "
                f"{text[:200]!r}."
            )
        event: dict[str, Any] = json.loads(text)
        return event

    def close(self) -> None:
        """Drop the connection; the next call opens a new one."""
        self._connection.close()


class Extension:
    """The thread that asks for events, and between two of them finishes what a request left."""

    def __init__(
        self,
        api: ExtensionsApi,
        finish: Callable[[str, float], None],
        give_up: Callable[[], object] = lambda: os._exit(_LOST),
    ) -> None:
        """``finish(request id, seconds until its deadline)`` does the work; ``give_up`` ends the
        process, where nobody will ask for events any more.
        """
        self._api = api
        self._finish = finish
        self._give_up = give_up
        # A daemon: the thread is blocked in `next` most of its life, and would keep a process
        # that ends (sys.exit in a handler, an init error) from ending. Work does not depend on
        # it: Lambda does not end an environment while an extension has not asked for `next`.
        self._thread = threading.Thread(target=self._run, name="twolane-extension", daemon=True)

    @classmethod
    def start(
        cls, address: str, finish: Callable[[str, float], None], **options: Any
    ) -> Extension | None:
        """Register and begin to listen; ``None``, with a log line, where that is refused."""
        api = ExtensionsApi(address)
        try:
            api.register("twolane")
        except (ExtensionsApiError, OSError, HTTPException) as exc:
            api.close()
            emit(
                logger,
                "extension.refused",
                f"No Lambda extension: work finishes before each response is returned. {exc}",
                level=logging.WARNING,
            )
            return None
        extension = cls(api, finish, **options)
        extension._thread.start()
        return extension

    @property
    def alive(self) -> bool:
        """True if the work that a request leaves will be finished."""
        return self._thread.is_alive()

    def _run(self) -> None:
        failures = 0
        while failures <= len(RETRY_S):
            try:
                event = self._api.next()
            except (ExtensionsApiError, OSError, HTTPException, ValueError) as exc:
                self._api.close()
                emit(
                    logger,
                    "extension.failed",
                    f"The Lambda extension got no event (attempt {failures + 1}): {exc}",
                    level=logging.ERROR,
                )
                if failures < len(RETRY_S):
                    time.sleep(RETRY_S[failures])
                failures += 1
            else:
                failures = 0
                self._serve(event)
        # It stays registered, so Lambda would wait for it in each invocation until the function's
        # timeout. A process that ends is replaced at once.
        # https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html#runtimes-extensions-failure
        emit(
            logger,
            "extension.lost",
            "The Lambda extension gets no events any more; this environment ends, so that Lambda "
            "makes a new one.",
            level=logging.CRITICAL,
        )
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._give_up()

    @ends_in_child
    def _serve(self, event: dict[str, Any]) -> None:
        if event.get("eventType") != "INVOKE":
            return
        # Whatever the work raises, `next` must be asked for again: an extension that does not
        # hangs this invocation until its timeout, and takes the environment with it.
        try:
            left_s = event["deadlineMs"] / 1000 - time.time()
            self._finish(event["requestId"], max(0.0, left_s))
        except BaseException as exc:  # noqa: BLE001
            emit(
                logger,
                "inline.failed",
                f"Work after the response failed outside of any task: {exc!r}",
                level=logging.ERROR,
                exc_info=exc,
                requestId=event.get("requestId"),
            )
