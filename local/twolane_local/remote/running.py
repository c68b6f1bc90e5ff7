"""The journal of a running emulator, through its control API (``docs/console.md``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.journal.files import from_dict

if TYPE_CHECKING:
    from twolane_local.journal import Event

#: As many as the API gives at a time.
_PAGE = 2000


class Api(Protocol):
    """What is asked of ``twolane_local.remote.emulator.Control``."""

    def get(self, *path: str, **query: Any) -> Any: ...


def journal(api: Api) -> list[Event]:
    """Everything that the emulator still holds, oldest first."""
    events: list[Event] = []
    while True:
        after = events[-1].seq if events else 0
        page = api.get("journal", after=after, limit=_PAGE)
        events += map(from_dict, page["events"])
        if not page["events"] or not page["more"]:
            return events
