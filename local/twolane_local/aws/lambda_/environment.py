"""The interface of execution environments, each of which runs one invocation at a time.

There are two kinds: *isolated* (a child process with AWS's own runtime client, frozen between
invocations) and *inprocess* (the handler is called in this process, for debuggers and tests).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

from twolane_local.aws.lambda_.report import TAIL_BYTES
from twolane_local.model import LATEST

if TYPE_CHECKING:
    import asyncio

    from twolane_local.aws.invocation import Invocation, ResponseStream
    from twolane_local.aws.lambda_.report import InvocationRecord, Line


@dataclass(slots=True, eq=False)
class Work:
    """One invocation on its way through an environment.

    ``done`` is resolved with the response, which may be before the environment is free again.
    ``deadline_ms`` is set when the invocation begins, in milliseconds since the epoch.
    """

    request_id: str
    event: bytes
    done: asyncio.Future[Invocation]
    record: InvocationRecord
    trace_id: str = ""
    client_context: str = ""
    tenant_id: str = ""
    invoked_arn: str = ""
    deadline_ms: int = 0
    waiting_since: float = 0.0  # the loop's time
    stream: ResponseStream | None = None  # set if the caller reads the response piece by piece
    version: str = LATEST  # as in ``Invocation``
    #: Its last lines, as many as its log's tail may need.
    log: deque[Line] = field(default_factory=partial(deque, maxlen=TAIL_BYTES))


class Owner(Protocol):
    """Notified of the changes of its environments, on the event loop.

    With each change the environment's invocation has ended, if it had one.
    """

    def freed(self, environment: Environment) -> None:
        """The environment is free: its init or its last invocation has ended."""

    def gone(self, environment: Environment, failure: bytes | None) -> None:
        """The environment has ended. ``failure`` is the error object of a failed init."""


class Environment(Protocol):
    """One execution environment. All methods are called on the event loop."""

    @property
    def responded(self) -> bool:
        """True if its invocation is answered, and it is only busy with what runs afterwards."""

    def start(self) -> None:
        """Begin the init phase, which ends with ``freed`` or ``gone``."""

    def begin(self, work: Work) -> None:
        """Run one invocation; the environment must be free."""

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        """The outcome of an invocation that its failed init ends, which is in its log then."""

    async def where(self) -> str:
        """The position of its init in the code, in a few words; empty if it cannot be seen."""

    async def stop(self) -> None:
        """End it without notifying the owner; returns when nothing of it is left."""
