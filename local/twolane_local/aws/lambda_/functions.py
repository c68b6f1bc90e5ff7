"""Runs functions by name, each in its pool of execution environments."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from twolane_local.aws.invocation import (
    LATEST,
    Invocation,
    RecursiveInvocationError,
    ThrottledError,
    resolve,
)
from twolane_local.aws.lambda_.environment import Work
from twolane_local.aws.lambda_.pool import MAX_ENVIRONMENTS, PATIENCE_S, Pool
from twolane_local.aws.lambda_.report import InvocationRecord
from twolane_local.model import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twolane_local.aws.invocation import ResponseStream
    from twolane_local.aws.lambda_.pool import MakeEnvironment
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec
    from twolane_local.model.states import PoolState

__all__ = ["MAX_ENVIRONMENTS", "PATIENCE_S", "Functions", "new_request_id", "trace_root"]


def _no(_: FunctionSpec) -> bool:
    return False


class Detection:
    """Lambda's recursive-loop detection, before an invocation."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        #: What PutFunctionRecursionConfig has said, by function.
        self.said: dict[str, str] = {}

    def line(self, spec: FunctionSpec, headers: Sequence[str], request_id: str) -> str:
        """The lineage of an invocation; raises ``RecursiveInvocationError`` where there is none."""
        over = lineage.stopped(headers, spec.arn)
        if over and self.said.get(spec.name, spec.recursive_loop) != lineage.ALLOW:
            self._journal.record(
                "invocation.dropped", function=spec.name, request_id=request_id,
                reason="recursive-loop", metric="RecursiveInvocationsDropped",
                level="ERROR", message=f"{spec.name} was not invoked: this chain of requests has "
                f"invoked it {lineage.LIMIT} times, and Lambda's recursive-loop detection stops it "
                "there (on AWS without a log line; metric RecursiveInvocationsDropped). Where the "
                "loop is meant, as Celery's retries and chains are, give the function "
                "RecursiveLoop: Allow",
            )  # fmt: skip
            raise RecursiveInvocationError(spec.name, over)
        return lineage.onward(headers, spec.arn)


class Functions:
    """All functions of the stack, by name. Implements ``Invoker``."""

    def __init__(
        self,
        specs: Iterable[FunctionSpec],
        make: MakeEnvironment,
        journal: Journal,
        *,
        maximum: int = MAX_ENVIRONMENTS,
    ) -> None:
        self._make = make
        self._journal = journal
        self._maximum = maximum
        self._loop = asyncio.get_running_loop()
        self._pools: dict[str, Pool] = {}
        #: By name; changes when the stack does.
        self.specs: dict[str, FunctionSpec] = {}
        self._closing: list[Pool] = []
        self._detection = Detection(journal)
        self.apply(specs)

    @property
    def recursion(self) -> dict[str, str]:
        """By function, ``Allow`` or ``Terminate`` where the API has said so since the template."""
        return self._detection.said

    def apply(
        self, specs: Iterable[FunctionSpec], *, renew: Callable[[FunctionSpec], bool] = _no
    ) -> None:
        """Have these functions from now on; a changed one, or one to ``renew``, starts anew."""
        wanted = {spec.name: spec for spec in specs}
        self._detection.said.clear()
        self.specs.clear()
        self.specs.update(wanted)
        for name in self._pools.keys() - wanted.keys():
            gone = self._pools.pop(name)
            gone.renew(gone.spec)
            self._closing.append(gone)
        for name, spec in wanted.items():
            pool = self._pools.get(name)
            if pool is None:
                self._pools[name] = Pool(spec, self._make, self._journal, maximum=self._maximum)
            elif pool.spec != spec or renew(spec):
                pool.renew(spec)

    def states(self) -> dict[str, PoolState]:
        """By function, how its environments are now."""
        return {name: pool.state for name, pool in self._pools.items()}

    def __len__(self) -> int:
        """How many environments there are."""
        return sum(len(pool) for pool in self._pools.values())

    async def invoke_streaming(
        self,
        function: str,
        event: bytes,
        stream: ResponseStream,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        """As ``Streamer`` says."""
        return await self.submit(
            function, event, request_id=request_id, client_context=client_context, stream=stream,
            trace_headers=trace_headers,
        ).done  # fmt: skip

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        """As ``Invoker`` says; ``client_context`` is JSON text, for the handler's context."""
        return await self.submit(
            function, event, request_id=request_id, client_context=client_context,
            trace_headers=trace_headers,
        ).done  # fmt: skip

    def submit(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",
        stream: ResponseStream | None = None,
        trace_headers: Sequence[str] = (),
    ) -> Work:
        """Start one invocation; its ``done`` is the outcome.

        Raises ``KeyError`` for an unknown function, ``ThrottledError`` and
        ``RecursiveInvocationError`` as ``Invoker`` says.
        """
        spec, qualifier = resolve(self.specs, function)
        function = spec.name
        pool = self._pools[function]
        identifier = request_id or new_request_id()
        line = self._detection.line(pool.spec, trace_headers, identifier)
        work = Work(
            request_id=identifier,
            event=event,
            done=self._loop.create_future(),
            record=InvocationRecord(self._journal, function, identifier),
            trace_id=f"{trace_root(identifier)};Sampled=0;{line}",
            client_context=client_context,
            stream=stream,
            invoked_arn="" if qualifier == LATEST else f"{spec.arn}:{qualifier}",
        )
        try:
            pool.submit(work)
        except ThrottledError:
            self._journal.record("invocation.throttled", function=function, request_id=identifier)
            raise
        return work

    async def provision(self, function: str, count: int) -> None:
        """Have ``count`` environments of a function ready, as provisioned concurrency does."""
        await self._pools[function].provision(count)

    async def warm(self) -> dict[str, bytes]:
        """Have an environment of each function ready; returns the failures, by function."""
        pools = list(self._pools.values())
        results = await asyncio.gather(*(pool.warm() for pool in pools))
        return {
            pool.spec.name: failure
            for pool, failure in zip(pools, results, strict=True)
            if failure is not None
        }

    async def starting(self) -> list[str]:
        """The functions whose init is under way, by logical id, and where it stands."""
        pools = list(self._pools.values())
        places = await asyncio.gather(*(pool.where() for pool in pools))
        return [
            pool.spec.logical_id + (f" ({place})" if place else "")
            for pool, place in zip(pools, places, strict=True)
            if place is not None
        ]

    async def check(self, function: str) -> bytes | None:
        """See that a function loads, and keep no environment that nothing has used."""
        pool = self._pools.get(function)
        return None if pool is None else await pool.check()

    async def close(self) -> None:
        pools = [*self._pools.values(), *self._closing]
        await asyncio.gather(*(pool.close() for pool in pools))


def trace_root(request_id: str) -> str:
    """The trace that a request begins: https://docs.aws.amazon.com/xray/latest/devguide/"""
    digits = request_id.replace("-", "")
    return f"Root=1-{digits[:8]}-{digits[8:]}"


def new_request_id() -> str:
    """A request id as Lambda makes them: a UUID."""
    # By hand: the uuid module takes eight times as long, on every request.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
