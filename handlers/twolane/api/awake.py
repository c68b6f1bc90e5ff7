"""The part that keeps the execution environment awake after a response: one for the process.

Several handlers may live in one module, but an environment has one runtime to listen to and one
extension of ours, which may register only once.

One event loop serves the environment. The handler's thread drives it until the response is
complete; the extension's thread drives the rest of the ASGI call, from the moment at which the
runtime has posted that response. So no hand-over costs anything while a client waits.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Condition
from typing import TYPE_CHECKING, Protocol

from twolane.environment import snapshot
from twolane.patches import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Work = Callable[[], None]


class Keeper(Protocol):
    """The extension, as far as a handler needs to know it."""

    @property
    def alive(self) -> bool:
        """True if the work that a request leaves will be finished."""


class Awake:
    """The hand-over from the handlers' thread to the extension's."""

    def __init__(self) -> None:
        self.turns = Turns()
        self._keeper: Keeper | None = None
        self._listeners: list[Callable[[], None]] = []

    def keep(self, keeper: Keeper | None) -> None:
        """From now on ``keeper`` takes the turns; ``None``: it was refused."""
        self._keeper = keeper

    @property
    def holds(self) -> bool:
        """True if work may be left for after the response."""
        return self._keeper is not None and self._keeper.alive

    def between_requests(self, call: Callable[[], None]) -> None:
        """Call that in the handlers' thread, each time when a response has been posted."""
        self._listeners.append(call)

    def posted(self, request_id: str) -> None:
        """The runtime has posted the response or the error of ``request_id``."""
        self.turns.posted(request_id)
        for call in self._listeners:
            call()

    def finish(self, request_id: str, wait_s: float) -> None:
        """In the extension's thread: do what the request leaves, once its response has left."""
        work = self.turns.take(request_id, wait_s)
        if work is not None:
            work()


_shared: dict[str, Awake] = {}


def of(environ: Mapping[str, str]) -> Awake | None:
    """The process's own, made when first asked for; ``None`` outside of an environment that Lambda
    freezes, or where its runtime cannot be listened to.
    """
    address = environ.get("AWS_LAMBDA_RUNTIME_API")
    # With several processes in one environment (Lambda managed instances) nothing is frozen
    # between invocations, and extensions get no INVOKE.
    # https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-runtimes.html
    if address is None or "AWS_LAMBDA_MAX_CONCURRENCY" in environ:
        return None
    if address in _shared:
        return _shared[address]
    awake = Awake()
    if not serving.listen(awake.posted):
        return None
    _begin(awake, address)
    if snapshot.pending():
        snapshot.after_restore(lambda: _begin(awake, environ["AWS_LAMBDA_RUNTIME_API"]))
    return awake


def _begin(awake: Awake, address: str) -> None:
    """Have a living extension. A snapshot holds the thread of the one from init; one that was
    refused there, or a copy without its threads, as a fork is, registers anew.
    """
    from twolane.api.extension import Extension

    if not awake.holds:
        awake.keep(Extension.start(address, awake.finish))
    _shared[address] = awake


#: Invocations that end while nobody takes their turn (the extension is gone) must not pile up.
_REMEMBERED = 32


class Turns:
    """The hand-over between the two threads, by request id: the extension may hear of an
    invocation before the handler's thread does, or only after that has posted its response.
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
        ``None`` after ``timeout_s``, too: waiting on would keep later invocations from ending.
        """
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._posted, timeout_s)
            return self._posted.pop(request_id, None)
