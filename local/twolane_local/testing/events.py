"""``twolane.journal``: what happened, to whom, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.journal.lines import is_detail, mark_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from twolane_local.journal import Event, Journal

#: Ids are written out up to here: enough to tell those of one test apart.
_SHORT = 8


class JournalView:
    """The journal of one test. Iterating gives every event, ``print`` shows the story."""

    def __init__(self, journal: Journal, started_at: float) -> None:
        self._journal, self._started_at = journal, started_at

    def __iter__(self) -> Iterator[Event]:
        return iter(self._journal)

    def __len__(self) -> int:
        return len(self._journal)

    def __str__(self) -> str:
        return self.story()

    def find(
        self, kind: str = "", *, function: str | None = None, queue: str | None = None
    ) -> list[Event]:
        """Events of a kind (``task.failed``), of a family (``task``), of a function, of a queue."""
        return [
            event
            for event in self
            if (not kind or event.kind == kind or event.kind.startswith(f"{kind}."))
            and function in (None, event.function)
            and queue in (None, event.queue)
        ]

    @property
    def kinds(self) -> list[str]:
        """The kinds of all events, in order."""
        return [event.kind for event in self]

    @property
    def requests(self) -> list[str]:
        """The ids of the HTTP requests, in order."""
        return [event.request_id or "" for event in self.find("request.received")]

    def about(self, identity: str) -> list[Event]:
        """Everything that happened because of a request, a task or a message: its own steps, and
        those of the tasks and messages that came of it.
        """
        return about(list(self), identity)

    def story(self, events: Iterable[Event] | None = None, *, details: bool = False) -> str:
        """The events as aligned lines: time since the test's start, mark, who, what, id."""
        chosen = list(self if events is None else events)
        shown = [event for event in chosen if details or not is_detail(event)]
        return "\n".join(lines(shown, self._started_at))


def about(events: list[Event], identity: str) -> list[Event]:
    """The events that belong to ``identity``, directly or through tasks and messages."""
    requests, tasks, messages = {identity}, {identity}, {identity}
    found: set[int] = set()
    while True:
        before = len(found)
        for event in events:
            if event.seq in found:
                continue
            if (
                event.request_id in requests
                or event.task_id in tasks
                or event.message_id in messages
                or event.data.get("originRequestId") in requests
                or not messages.isdisjoint(event.data.get("messageIds") or ())
            ):
                found.add(event.seq)
                # Not their requests: an invocation of the worker's has other messages too.
                tasks |= {event.task_id} - {None}  # type: ignore[arg-type]
                messages |= {event.message_id} - {None}  # type: ignore[arg-type]
        if len(found) == before:
            return [event for event in events if event.seq in found]


def lines(events: Iterable[Event], started_at: float) -> Iterator[str]:
    """One line for each event."""
    rows = [
        (
            since(event.at - started_at),
            mark_of(event),
            _who(event),
            _text(event),
            _identity(event),
        )
        for event in events
    ]
    times = max((len(row[0]) for row in rows), default=0)
    whos = min(24, max((len(row[2]) for row in rows), default=0))
    for at, mark, who, text, identity in rows:
        first, *rest = text.splitlines() or [""]
        yield f"{at:>{times}} {mark} {who:<{whos}}  {first}  {identity}".rstrip()
        yield from (f"{'':>{times + whos + 5}}{line}" for line in rest)


def since(seconds: float) -> str:
    """``+0.000``, ``+01:30.000``, ``+1d 02:00:00.000``."""
    total_ms = round(max(0.0, seconds) * 1000)
    minutes, ms = divmod(total_ms, 60_000)
    tail = f"{ms / 1000:06.3f}"
    if not minutes:
        return f"+{ms / 1000:.3f}"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"+{minutes:02}:{tail}"
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{tail}"
    return f"+{days}d {clock}" if days else f"+{clock}"


def _text(event: Event) -> str:
    told = str(event.data.get("message", ""))
    # The runtime's own lines carry the mark already.
    return told[2:] if told[:2] in {"→ ", "← ", "↻ ", "! ", "= "} else text_of(event)


def _who(event: Event) -> str:
    return event.function or event.queue or str(event.data.get("schedule") or "gateway")


def _identity(event: Event) -> str:
    return (event.task_id or event.request_id or event.message_id or "")[:_SHORT]
