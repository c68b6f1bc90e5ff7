"""DynamoDB tables that outlive the moto process: every write is in a file before it is answered.

An append-only log of the requests that changed a table, replayed into the new tables at the next
start and then written anew as the items that are left. Like the queues' log it survives the
process being killed at any moment, not a power cut.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

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
        self._file: io.BufferedWriter | None = None

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2]
        if action not in _WRITES:
            return self._app(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        seen: list[str] = []

        def started(status: str, headers: Any, error: Any = None) -> Any:
            seen.append(status)
            return start_response(status, headers, error)

        # Held until the log has it, too: the log has moto's order, and nobody reads what a kill
        # may still undo.
        with REQUESTS:
            answer = list(self._app(environ, started))
            if seen and seen[0].startswith("200"):
                self._append({"action": action, "body": json.loads(body)})
        return answer

    def _append(self, entry: dict[str, Any]) -> None:
        if self._file is None:
            self._file = self._path.open("ab")
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Give the file back; what is written later opens it again."""
        with REQUESTS:
            if self._file is not None:
                self._file.close()
                self._file = None

    def replay(self, items: Callable[[], Iterable[tuple[str, dict[str, Any]]]]) -> None:
        """Do again what the log holds; ``items`` then gives (table, item) for all that is left."""
        with REQUESTS:
            for entry in self._entries():
                # A write for a table that the template has no more is dropped by moto's own error.
                send(self._app, entry["action"], entry["body"])
            aside = self._path.with_suffix(".new")
            with aside.open("wb") as file:
                for table, item in items():
                    entry = {"action": "PutItem", "body": {"TableName": table, "Item": item}}
                    file.write(json.dumps(entry).encode() + b"\n")
            aside.replace(self._path)

    def _entries(self) -> Iterable[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # a half-written last one was never answered
                    yield json.loads(line)


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
