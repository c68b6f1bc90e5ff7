"""Events that were accepted for asynchronous invocation and outlive the process."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twolane_local.durable import Follower, JsonLog, PersistenceError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "events.jsonl"


@dataclass(frozen=True, slots=True)
class Asked:
    """An accepted event; ``accepted_at`` in epoch seconds, ``tries`` that have ended so far."""

    function: str
    request_id: str
    payload: bytes
    client_context: str = ""
    accepted_at: float = 0.0
    tries: int = 0
    trace_header: str = ""


class EventLog:
    """What is accepted and has not ended, in a directory."""

    def __init__(self, directory: Path) -> None:
        """Raises ``PersistenceError`` where another emulator has the directory."""
        self._log = JsonLog(directory, FILE)
        self._open: dict[str, Asked] = {}
        self._follower = Follower(self._log, lambda: map(_shown, self._open.values()))
        for line in self._log.lines():
            self._replay(line)
        self._follower.rewrite()

    def pending(self) -> list[Asked]:
        """The events that have not ended, the oldest first."""
        return list(self._open.values())

    def accepted(self, asked: Asked) -> None:
        """Raises ``PersistenceError`` where it is not kept, and is not accepted therefore."""
        self._replay(_shown(asked))
        try:
            self._follower.must(_shown(asked))
        except PersistenceError:
            self._open.pop(asked.request_id)
            raise

    def tried(self, asked: Asked) -> None:
        self._change({"do": "tried", "id": asked.request_id, "tries": asked.tries})

    def ended(self, request_id: str) -> None:
        self._change({"do": "ended", "id": request_id})

    def close(self) -> None:
        self._log.close()

    def _change(self, line: dict[str, Any]) -> None:
        self._replay(line)
        self._follower.may(line)

    def _replay(self, line: dict[str, Any]) -> None:
        match line["do"]:
            case "accepted":
                self._open[line["id"]] = Asked(
                    line["function"], line["id"], base64.b64decode(line["payload"]),
                    line["context"], line["at"], line["tries"],
                    line.get("trace", ""),
                )  # fmt: skip
            case "tried":
                self._open[line["id"]] = replace(self._open[line["id"]], tries=line["tries"])
            case "ended":
                self._open.pop(line["id"], None)


def _shown(asked: Asked) -> dict[str, Any]:
    return {
        "do": "accepted",
        "id": asked.request_id,
        "function": asked.function,
        "payload": base64.b64encode(asked.payload).decode(),
        "context": asked.client_context,
        "at": asked.accepted_at,
        "tries": asked.tries,
        "trace": asked.trace_header,
    }
