"""Who may drive the event loop, and when the other one's turn begins.

One loop serves an execution environment. The handler's thread drives it until the response is
complete; what is left of the ASGI call is driven by the extension's thread, from the moment at
which the runtime has posted that response. No hand-over costs anything while a client waits.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[], None]

#: Invocations that end while nobody takes their turn (the extension is gone) must not pile up.
_REMEMBERED = 32


class Turns:
    """The hand-over between the two threads, by request id.

    By id and not by a flag, because the two APIs race: the extension may hear of an invocation
    before the handler's thread does, or only after that thread has already posted its response.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._left: dict[str, Work] = {}
        self._posted: OrderedDict[str, Work | None] = OrderedDict()

    def leave(self, request_id: str, work: Work) -> None:
        """The handler returns, and leaves ``work`` to be done after its response has left."""
        with self._changed:
            self._left[request_id] = work

    def posted(self, request_id: str) -> None:
        """The runtime has posted the response (or the error) of ``request_id``."""
        with self._changed:
            self._posted[request_id] = self._left.pop(request_id, None)
            while len(self._posted) > _REMEMBERED:
                self._posted.popitem(last=False)
            self._changed.notify_all()

    def take(self, request_id: str, timeout_s: float) -> Work | None:
        """Wait until the response of ``request_id`` has left; then what it left, if anything.

        ``None`` after ``timeout_s`` too: past its deadline an invocation is Lambda's to kill, and
        a thread that waits on would keep every later invocation from ending.
        """
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._posted, timeout_s)
            return self._posted.pop(request_id, None)
