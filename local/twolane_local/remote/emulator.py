"""A running emulator as a ``Source``, through its control API, whose address is in a file that only
its user can read.
"""

from __future__ import annotations

import http.client
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from twolane_local.errors import LocalError
from twolane_local.journal.files import event_from_dict
from twolane_local.remote.source import MessageChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.journal.filters import Filter
    from twolane_local.remote.source import Edit, JsonObject


class ControlError(LocalError):
    """The emulator answered with an error; ``status`` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ControlClient:
    """One kept-alive connection to one emulator, without the environment's proxies."""

    def __init__(self, running: Running, *, timeout_s: float = 30.0) -> None:
        self._running = running
        parts = urlsplit(running.url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=timeout_s
        )

    def close(self) -> None:
        self._connection.close()

    def get(self, *path: str, **query: Any) -> JsonObject:
        """Return the JSON of a route; ``None`` in the query is left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", _route(path) + (f"?{urlencode(given)}" if given else ""))

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> JsonObject:
        return self._request("POST", _route(path), json.dumps(body or {}).encode())

    def _request(self, method: str, target: str, body: bytes | None = None) -> JsonObject:
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
        return _parse(response.status, content)


def _route(path: tuple[str, ...]) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in path)


def _parse(status: int, content: bytes) -> JsonObject:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ControlError(
            f"the emulator answered {status} without JSON; is it of another version?",
            status,
        ) from error
    if status >= 400:
        detail = value.get("detail") or value.get("title") if isinstance(value, dict) else value
        raise ControlError(str(detail), status)
    answer: JsonObject = value
    return answer


#: How often ``follow`` reads the journal, in seconds.
LOOK_S = 0.25
#: The events of one request: the most that the API returns.
_PAGE = 2000


class EmulatorSource:
    """``wait`` sleeps between two reads of ``follow``."""

    real = False

    def __init__(self, running: Running, *, wait: Callable[[float], None] = time.sleep) -> None:
        self.where = f"the emulator of {running.template}"
        self._control = ControlClient(running)
        self._wait = wait

    def status(self) -> JsonObject:
        return self._control.get("status")

    def queues(self) -> list[JsonObject]:
        return list(self._control.get("queues")["queues"])

    def messages(self, queue: str, *, limit: int) -> list[JsonObject]:
        found: list[JsonObject] = []
        after = None
        while len(found) < limit:
            page = self._control.get(
                "queues", queue, "messages", limit=min(limit - len(found), 100), after=after
            )
            found += page["messages"]
            if not page["more"] or not page["messages"]:
                break
            after = page["messages"][-1]["position"]
        return found

    def message(self, queue: str, identifier: str) -> JsonObject | None:
        choice = MessageChoice((identifier,))
        for message in self.messages(queue, limit=10_000):
            if choice.includes(message):
                return self._control.get("queues", queue, "messages", message["id"])
        return None

    def redrive(
        self, queue: str, choice: MessageChoice, *, to: str | None, edit: Edit
    ) -> JsonObject:
        ids = self._ids(queue, choice)
        if not ids:
            return {"redriven": [], "failed": []}
        body: JsonObject = {"messageIds": ids}
        if to is not None:
            body["to"] = to
        if edit:
            body["edits"] = dict.fromkeys(ids, edit.as_dict())
        return self._control.post("queues", queue, "redrive", body=body)

    def purge(self, queue: str, choice: MessageChoice) -> int:
        if choice.everything:
            return int(self._control.post("queues", queue, "purge")["purged"])
        ids = self._ids(queue, choice)
        if not ids:
            return 0
        done = self._control.post("queues", queue, "delete", body={"messageIds": ids})
        return len(done["deleted"])

    def _ids(self, queue: str, choice: MessageChoice) -> list[str]:
        found = self.messages(queue, limit=100_000)
        return [message["id"] for message in found if choice.includes(message)]

    def functions(self) -> list[JsonObject]:
        return list(self._control.get("functions")["functions"])

    def tasks(self) -> list[JsonObject]:
        return list(self._control.get("tasks")["tasks"])

    def runs(self, name: str, *, limit: int) -> list[JsonObject]:
        task = self._known("tasks", name, limit=limit)
        found: list[JsonObject] = [] if task is None else task["history"]
        return found

    def send(
        self,
        name: str,
        *,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        countdown: float | None,
        queue: str | None,
    ) -> JsonObject:
        body: JsonObject = {"args": list(args), "kwargs": dict(kwargs)}
        body |= {name: value for name, value in
                 (("countdown", countdown), ("queue", queue)) if value is not None}  # fmt: skip
        return self._control.post("tasks", name, "run", body=body)

    def replay(self, identifier: str, edit: Edit) -> JsonObject:
        return self._control.post("replay", body={"id": identifier, **edit.as_dict()})

    def schedules(self) -> list[JsonObject]:
        return list(self._control.get("schedules")["schedules"])

    def trace(self, identifier: str) -> JsonObject | None:
        return self._known("trace", identifier)

    def why(self, identifier: str, /) -> list[str]:
        found = self._known("why", identifier)
        if found is None or found["state"] == "over":
            return []
        return [str(reason["text"]) for reason in found["reasons"]]

    def _known(self, *path: str, **query: Any) -> JsonObject | None:
        """Return the answer of a route, or ``None`` if the name or id is unknown."""
        try:
            return self._control.get(*path, **query)
        except ControlError as error:
            if error.status == 404:
                return None
            raise

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        found: list[Event] = []
        before = None
        while len(found) < limit:
            page = self._journal(wanted, before=before, limit=min(limit - len(found), _PAGE))
            found = [event_from_dict(each) for each in page["events"]] + found
            if not page["more"] or not found or (since is not None and found[0].at < since):
                break
            before = found[0].seq
        return [event for event in found if since is None or event.at >= since]

    def follow(self, wanted: Filter) -> Iterator[Event]:
        return self._from(self._control.get("status")["journal"]["last"], wanted)

    def _from(self, after: int, wanted: Filter) -> Iterator[Event]:
        while True:
            page = self._journal(wanted, after=after, limit=_PAGE)
            fresh = [event_from_dict(each) for each in page["events"]]
            yield from fresh
            if page["more"] and fresh:
                after = fresh[-1].seq
            else:
                after = page["last"]
                self._wait(LOOK_S)

    def _journal(self, wanted: Filter, **more: Any) -> JsonObject:
        filters = {name: value for name, value in asdict(wanted).items() if value}
        return self._control.get("journal", **filters, **more)


class NotRunningError(LocalError):
    """No emulator with a console runs; start one with `twolane up`."""


@dataclass(frozen=True, slots=True)
class Running:
    """One emulator's console. ``started_at`` is in seconds since the epoch."""

    pid: int
    url: str
    token: str
    stack: str
    template: str
    started_at: float

    def as_dict(self) -> dict[str, object]:
        return {
            "pid": self.pid, "url": self.url, "token": self.token, "stack": self.stack,
            "template": self.template, "startedAt": self.started_at,
        }  # fmt: skip


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the files:
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    env = os.environ if environ is None else environ
    if env.get("XDG_RUNTIME_DIR"):
        return Path(env["XDG_RUNTIME_DIR"]) / "twolane"
    cache = env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or Path.home()) / ".cache"
    return Path(cache) / "twolane" / "run"


@contextmanager
def announced(running: Running, where: Path) -> Iterator[Path]:
    """Write the file on entry, and remove it on exit."""
    where.mkdir(parents=True, exist_ok=True, mode=0o700)
    where.chmod(0o700)
    path = where / f"{running.pid}.json"
    path.unlink(missing_ok=True)
    # Created with its mode, so that nobody else can read it before a chmod.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(running.as_dict(), out)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def find(where: Path | None = None) -> list[Running]:
    """Return the running emulators, the latest first; remove files that killed ones left."""
    found = []
    for path in sorted((where or folder()).glob("*.json")):
        try:
            value = json.loads(path.read_text())
            running = Running(
                int(value["pid"]), str(value["url"]), str(value["token"]), str(value["stack"]),
                str(value["template"]), float(value["startedAt"]),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError):
            continue  # half written, or of another version
        if _alive(running.pid):
            found.append(running)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda each: each.started_at, reverse=True)


def choose(
    running: Sequence[Running], template: Path | None = None, folder: Path | None = None
) -> Running:
    """The emulator of ``template``, or the only one (in ``folder``). Raises ``NotRunningError``."""
    if not running:
        raise NotRunningError("no emulator with a console runs; start one with `twolane up`")
    wanted = str(template.resolve()) if template is not None else None
    for each in running:
        if each.template == wanted:
            return each
    if folder is not None:
        below = [each for each in running if Path(each.template).is_relative_to(folder.resolve())]
        if len(below) == 1:
            return below[0]
    if len(running) == 1:
        return running[0]
    templates = ", ".join(each.template for each in running)
    raise NotRunningError(
        f"{len(running)} emulators run ({templates}), none with {wanted or 'a template named'}; "
        "choose one with --template"
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
