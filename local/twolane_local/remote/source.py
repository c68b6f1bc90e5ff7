"""What the commands ask and tell: an emulator by its control API, or a deployed stack by boto3.

Both answer in the shapes of docs/console.md, so that ``--json`` prints one and the same for each; a
field that one of them cannot know is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twolane_local.journal import Event
    from twolane_local.journal.filters import Filter

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which messages of a queue: those of these ids, those of a task, or all of them."""

    ids: tuple[str, ...] = ()
    task: str | None = None
    everything: bool = False

    def takes(self, message: Mapping[str, Any]) -> bool:
        """Whether a message is meant. An id may be the message's or the task's, or how it begins,
        from 8 characters on.
        """
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
    """What replaces a task's arguments; ``None`` leaves them as they are."""

    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None

    def __bool__(self) -> bool:
        return self.args is not None or self.kwargs is not None

    def as_dict(self) -> Json:
        found = {"args": self.args, "kwargs": self.kwargs}
        return {name: value for name, value in found.items() if value is not None}


class Source(Protocol):
    """Every method raises ``LocalError`` where it cannot answer, with what to do about it."""

    @property
    def where(self) -> str:
        """In words: ``the emulator of template.yaml``, ``stack shop (123456789012, eu-west-1)``."""

    @property
    def real(self) -> bool:
        """Whether somebody's real messages may be on its queues."""

    def queues(self) -> list[Json]:
        """``Queue`` of each."""

    def messages(self, queue: str, *, limit: int) -> list[Json]:
        """``Message`` of each, as far as it can be looked at."""

    def message(self, queue: str, identifier: str) -> Json | None:
        """One message with its whole body, by its own id or its task's."""

    def redrive(self, queue: str, choice: Choice, *, to: str | None, edit: Edit) -> Json:
        """``{redriven: […], failed: […]}``; a message is deleted only after it has been sent."""

    def purge(self, queue: str, choice: Choice) -> int:
        """Delete them; how many there were."""

    def functions(self) -> list[Json]:
        """``Function`` of each."""

    def tasks(self) -> list[Json]:
        """``Task`` of each, by name."""

    def runs(self, name: str, *, limit: int) -> list[Json]:
        """``Run`` of each of one task, newest first."""

    def send(
        self,
        name: str,
        *,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        countdown: float | None,
        queue: str | None,
    ) -> Json:
        """``{taskId, messageId, queue}``."""

    def replay(self, identifier: str, edit: Edit) -> Json:
        """``{kind, id}`` of what now runs."""

    def schedules(self) -> list[Json]:
        """``Schedule`` of each."""

    def trace(self, identifier: str) -> Json | None:
        """The trace of a request, task or message; ``None`` where nothing has that id."""

    def why(self, identifier: str, /) -> list[str]:
        """Why it does not move, in sentences; empty where nothing is to say."""

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        """The last so many events, oldest first; ``since`` in seconds since the epoch."""

    def follow(self, wanted: Filter) -> Iterator[Event]:
        """Each event from this call on, without end."""
