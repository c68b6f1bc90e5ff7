"""The Protocol ``Source``: a running emulator or a deployed stack, for the commands.

Both return the shapes of docs/console.md, so that ``--json`` prints the same for each; a field that
a source cannot know is absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.journal.filters import Filter

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class MessageChoice:
    """Selects messages of a queue: by ids, by the task's name, or all of them."""

    ids: tuple[str, ...] = ()
    task: str | None = None
    everything: bool = False

    def includes(self, message: Mapping[str, Any]) -> bool:
        """Return whether it is selected; an id is its own or its task's, or 8 characters of it."""
        if self.everything:
            return True
        task = message.get("task") or {}
        if self.task is not None and task.get("name") != self.task:
            return False
        if not self.ids:
            return self.task is not None
        known = [str(each) for each in (message["id"], task.get("id")) if each]
        return any(one == each or (len(one) >= 8 and each.startswith(one))
                   for one in self.ids for each in known)  # fmt: skip

    def __str__(self) -> str:
        if self.everything:
            return "all messages"
        words = [f"message {one}" for one in self.ids]
        return " and ".join(words) if words else f"the messages of {self.task}"


@dataclass(frozen=True, slots=True)
class Edit:
    """New arguments for a task; ``None`` keeps the present ones."""

    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        return self.args is not None or self.kwargs is not None

    def as_dict(self) -> JsonObject:
        found = {"args": self.args, "kwargs": self.kwargs}
        return {name: value for name, value in found.items() if value is not None}


class Source(Protocol):
    """Every method raises ``LocalError`` with the next step if it fails."""

    @property
    def where(self) -> str:
        """``the emulator of template.yaml`` or ``stack shop (123456789012, eu-west-1)``."""

    @property
    def real(self) -> bool:
        """True if its queues may have real messages."""

    def queues(self) -> list[JsonObject]:
        """Return the ``Queue`` of each."""

    def messages(self, queue: str, *, limit: int) -> list[JsonObject]:
        """Return the ``Message`` of each."""

    def message(self, queue: str, identifier: str) -> JsonObject | None:
        """Return a message with its whole body, by its own id or its task's."""

    def redrive(
        self, queue: str, choice: MessageChoice, *, to: str | None, edit: Edit
    ) -> JsonObject:
        """Send messages, then delete them; return ``{redriven: […], failed: […]}``."""

    def purge(self, queue: str, choice: MessageChoice) -> int:
        """Delete messages; return their number."""

    def functions(self) -> list[JsonObject]:
        """Return the ``Function`` of each."""

    def tasks(self) -> list[JsonObject]:
        """Return the ``Task`` of each, by name."""

    def runs(self, name: str, *, limit: int) -> list[JsonObject]:
        """Return the ``Run`` of each run of a task, newest first."""

    def send(
        self,
        name: str,
        *,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        countdown: float | None,
        queue: str | None,
    ) -> JsonObject:
        """Send a task; return ``{taskId, messageId, queue}``."""

    def replay(self, identifier: str, edit: Edit) -> JsonObject:
        """Run something again; return its new ``{kind, id}``."""

    def schedules(self) -> list[JsonObject]:
        """Return the ``Schedule`` of each."""

    def trace(self, identifier: str) -> JsonObject | None:
        """Return the trace of a request, task or message, or ``None`` if the id is unknown."""

    def why(self, identifier: str, /) -> list[str]:
        """Return the reasons why it does not move, in sentences."""

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        """Return the last ``limit`` events, oldest first; ``since`` in seconds since the epoch."""

    def follow(self, wanted: Filter) -> Iterator[Event]:
        """Yield each event from this call on, without end."""
