"""What keeps the execution environment awake after a response: one for the process.

Several handlers may live in one module, but an environment has one runtime to listen to and one
extension of ours, which may register only once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twolane import snapshot
from twolane.api import runtime_client
from twolane.api.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Keeper(Protocol):
    """The extension, as far as a handler needs to know it."""

    @property
    def alive(self) -> bool:
        """Whether somebody will finish what a request leaves."""


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
        """Whether work may be left to be done after the response."""
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
    if not runtime_client.listen(awake.posted):
        return None
    _begin(awake, address)
    if snapshot.pending():
        snapshot.after_restore(lambda: _begin(awake, environ["AWS_LAMBDA_RUNTIME_API"]))
    return awake


def _begin(awake: Awake, address: str) -> None:
    """Have an extension, if there is none that lives.

    A snapshot of Lambda's holds the thread of the one that registered in init. One that was refused
    there, or a copy without its threads, as a fork is, registers anew.
    """
    from twolane.api.extension import Extension

    if not awake.holds:
        awake.keep(Extension.start(address, awake.finish))
    _shared[address] = awake
