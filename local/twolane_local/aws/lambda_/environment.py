"""Execution environments: where one invocation at a time of one function runs.

Two kinds, one Protocol: *isolated* (a child process with AWS's own runtime client, frozen between
invocations) and *inprocess* (the handler called in this process, for debuggers and tests).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from twolane_local.aws.invocation import Invocation, ResponseStream
    from twolane_local.aws.lambda_.report import InvocationRecord


@dataclass(slots=True, eq=False)
class Work:
    """One invocation on its way through an environment.

    ``done`` resolves when the response is there, which may be before the environment is free
    again. ``deadline_ms`` is set when the invocation begins, in milliseconds since the epoch.
    """

    request_id: str
    event: bytes
    done: asyncio.Future[Invocation]
    record: InvocationRecord
    trace_id: str = ""
    client_context: str = ""
    invoked_arn: str = ""
    deadline_ms: int = 0
    waiting_since: float = 0.0  # the loop's time
    stream: ResponseStream | None = None  # where the caller takes the response in pieces
    log: list[bytes] = field(default_factory=list)


class Owner(Protocol):
    """Whoever keeps environments is told of their changes, on the event loop.

    With each of them the environment's invocation has ended, if the environment had one.
    """

    def freed(self, environment: Environment) -> None:
        """It can take work: init is over, or the last invocation has ended."""

    def gone(self, environment: Environment, failure: bytes | None) -> None:
        """It will take none again. ``failure`` is the error object where its init failed."""


class Environment(Protocol):
    """One execution environment. All methods are called on the event loop."""

    @property
    def responded(self) -> bool:
        """It has answered its invocation and is busy only with what comes after."""

    def start(self) -> None:
        """Begin the init phase; ends in ``freed`` or ``gone``."""

    def begin(self, work: Work) -> None:
        """Run one invocation; the environment must be free."""

    async def where(self) -> str:
        """In a few words, where its init stands; nothing where that cannot be seen."""

    async def stop(self) -> None:
        """End it, without a word to the owner; returns when nothing of it is left."""
