"""A client of the control API that ``twolane up`` serves; docs/console.md has its routes."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twolane_local.console.address import Running


class ControlError(LocalError):
    """The emulator refused; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """One kept-alive connection to one emulator. Proxies of the environment are never asked."""

    def __init__(self, running: Running, *, timeout_s: float = 30.0) -> None:
        self._running = running
        parts = urlsplit(running.url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s
        )

    def close(self) -> None:
        self._connection.close()

    def get(self, *path: str, **query: Any) -> Any:
        """JSON of a route; a ``None`` in the query is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._ask("GET", _route(path) + (f"?{urlencode(given)}" if given else ""))

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        return self._ask("POST", _route(path), json.dumps(body or {}).encode())

    def _ask(self, method: str, target: str, body: bytes | None = None) -> Any:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
            headers["x-twolane-token"] = self._running.token
        try:
            self._connection.request(method, target, body, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise LocalError(
                f"the emulator at {self._running.url} does not answer ({error!r}); "
                "is `twolane up` still running?"
            ) from error
        return _answer(response.status, content)


def _route(path: tuple[str, ...]) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in path)


def _answer(status: int, content: bytes) -> Any:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ControlError(
            f"the emulator answered {status} with what is no JSON; is it of another version?",
            status,
        ) from error
    if status >= 400:
        said = value.get("detail") or value.get("title") if isinstance(value, dict) else value
        raise ControlError(str(said), status)
    return value
