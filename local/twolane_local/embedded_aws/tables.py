"""DynamoDB tables that outlive the moto process: every write is in a file before it is answered.

An append-only log of the requests that changed a table, replayed into the new tables at the next
start and then written anew as the items that are left. Like the queues' log it survives the
process being killed at any moment, not a power cut.
"""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

from twolane_local.durable import write_line
from twolane_local.embedded_aws.conditions import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FILE = "tables.jsonl"
_WRITES = frozenset(
    {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems",
     "ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}
)  # fmt: skip
_VERSION = "DynamoDB_20120810."


class TableLog:
    """A WSGI app in front of moto's. ``replay`` comes after the tables are there, once."""

    def __init__(self, app: Wsgi, directory: Path) -> None:
        self._app = app
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FILE
        self._file = -1
        self._items: Callable[[], Iterable[tuple[str, dict[str, Any]]]] = tuple
        #: Whether moto has something that the disk did not take.
        self._behind = False

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        service, _, action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if self._behind and service.startswith("DynamoDB_"):
            with REQUESTS:
                if not self._caught_up():
                    return _refuse(start_response)
        if action not in _WRITES:
            return self._app(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        started: list[Any] = []
        # Held until the log has it, too: the log has moto's order, and nobody reads what a kill
        # may still undo.
        with REQUESTS:
            answer = list(self._app(environ, lambda *how: started.extend(how)))
            if str(started[0]).startswith("200"):
                try:
                    self._append({"action": action, "body": json.loads(body)})
                except OSError:
                    self._behind = True
                    if not self._caught_up():
                        return _refuse(start_response)
        start_response(*started[:2])
        return answer

    def _append(self, entry: dict[str, Any]) -> None:
        """Raises ``OSError``, with the log as it was."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        write_line(self._file, entry)

    def _caught_up(self) -> bool:
        """Whether the disk has it all; until then nobody gets an answer, as a kill may undo it."""
        if self._behind:
            try:
                self._rewrite()
            except OSError:
                return False
            self._behind = False
        return True

    def close(self) -> None:
        """Give the file back; what is written later opens it again."""
        with REQUESTS:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def replay(self, items: Callable[[], Iterable[tuple[str, dict[str, Any]]]]) -> None:
        """Do again what the log holds; ``items`` then gives (table, item) for all that is left."""
        with REQUESTS:
            for entry in self._entries():
                # A write for a table that the template has no more is dropped by moto's own error.
                send(self._app, entry["action"], entry["body"])
            self._items = items
            self._rewrite()

    def _rewrite(self) -> None:
        """Raises ``OSError``, with the log as it was."""
        aside = self._path.with_suffix(".new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            for table, item in self._items():
                body = {"TableName": table, "Item": item}
                write_line(descriptor, {"action": "PutItem", "body": body})
        finally:
            os.close(descriptor)
        aside.replace(self._path)
        self.close()

    def _entries(self) -> Iterable[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # a half-written last one was never answered
                    yield json.loads(line)


def _refuse(start_response: Callable[..., Any]) -> list[bytes]:
    """As DynamoDB does when it is in trouble; clients try again:
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
    """
    answer = {
        "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
        "message": "the directory of --persist takes no more; make room there",
    }
    content = json.dumps(answer).encode()
    headers = [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Content-Length", str(len(content))),
    ]
    start_response("500 Internal Server Error", headers)
    return [content]


def send(app: Wsgi, action: str, body: dict[str, Any]) -> None:
    """Make one of DynamoDB's calls; how it ends is moto's to say and nobody's to hear."""
    content = json.dumps(body).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "dynamodb.us-east-1.amazonaws.com",
        "HTTP_X_AMZ_TARGET": _VERSION + action,
        "HTTP_AUTHORIZATION": (
            "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0"
        ),
        "CONTENT_TYPE": "application/x-amz-json-1.0",
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    list(app(environ, lambda *_: None))
