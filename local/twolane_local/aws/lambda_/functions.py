"""Runs functions by name, each in its own pool of execution environments."""

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
from twolane_local.aws.lambda_.pool import MAX_ENVIRONMENTS, EnvironmentPool
from twolane_local.aws.lambda_.report import InvocationRecord
from twolane_local.model import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from twolane_local.aws.invocation import ResponseStream
    from twolane_local.aws.lambda_.pool import MakeEnvironment
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec
    from twolane_local.model.states import PoolState


class RecursionDetection:
    """Lambda's recursive-loop detection, which comes before each invocation.

    https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        #: The settings of PutFunctionRecursionConfig, by function.
        self.settings: dict[str, str] = {}

    def check(self, spec: FunctionSpec, headers: Sequence[str], request_id: str) -> str:
        """The lineage of an invocation; raises ``RecursiveInvocationError`` if it is a loop."""
        over = lineage.stopped(headers, spec.arn)
        if over and self.settings.get(spec.name, spec.recursive_loop) != lineage.ALLOW:
            self._journal.record(
                "invocation.dropped", function=spec.name, request_id=request_id,
                reason="recursive-loop", metric="RecursiveInvocationsDropped",
                level="ERROR", message=f"{spec.name} was not invoked: this chain of requests has "
                f"invoked it {lineage.LIMIT} times, and Lambda's recursive-loop detection stops it "
                "there (on AWS without a log line; metric RecursiveInvocationsDropped). If the "
                "loop is intended, as with Celery's retries and chains, give the function "
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
        self._pools: dict[str, EnvironmentPool] = {}
        #: By name; updated with the stack.
        self.specs: dict[str, FunctionSpec] = {}
        self._closing: list[EnvironmentPool] = []
        self._detection = RecursionDetection(journal)
        self.apply(specs)

    @property
    def recursion(self) -> dict[str, str]:
        """``Allow`` or ``Terminate`` by function, as set by the API since the last ``apply``."""
        return self._detection.settings

    def apply(
        self,
        specs: Iterable[FunctionSpec],
        *,
        renew: Callable[[FunctionSpec], bool] = lambda _: False,
    ) -> None:
        """Replace the functions; changed ones, and those that ``renew`` selects, start anew."""
        wanted = {spec.name: spec for spec in specs}
        self._detection.settings.clear()
        self.specs.clear()
        self.specs.update(wanted)
        for name in self._pools.keys() - wanted.keys():
            gone = self._pools.pop(name)
            gone.renew(gone.spec)
            self._closing.append(gone)
        for name, spec in wanted.items():
            pool = self._pools.get(name)
            if pool is None:
                self._pools[name] = EnvironmentPool(
                    spec, self._make, self._journal, maximum=self._maximum
                )
            elif pool.spec != spec or renew(spec):
                pool.renew(spec)

    def states(self) -> dict[str, PoolState]:
        """The current state of the environments, by function."""
        return {name: pool.state for name, pool in self._pools.items()}

    def __len__(self) -> int:
        """The number of environments."""
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
        """Implements ``Streamer``."""
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
        """Implements ``Invoker``."""
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
        """Start one invocation; ``done`` of the result is the outcome.

        Raises the same errors as ``Invoker.invoke``.
        """
        spec, qualifier = resolve(self.specs, function)
        function = spec.name
        pool = self._pools[function]
        identifier = request_id or new_request_id()
        line = self._detection.check(pool.spec, trace_headers, identifier)
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
        """Start ``count`` environments of a function, as provisioned concurrency does."""
        await self._pools[function].provision(count)

    async def warm(self) -> dict[str, bytes]:
        """Start an environment of each function; returns the failures, by function."""
        pools = list(self._pools.values())
        results = await asyncio.gather(*(pool.warm() for pool in pools))
        return {
            pool.spec.name: failure
            for pool, failure in zip(pools, results, strict=True)
            if failure is not None
        }

    async def starting(self) -> list[str]:
        """The logical ids of functions whose init is under way, with its position in the code."""
        pools = list(self._pools.values())
        places = await asyncio.gather(*(pool.where() for pool in pools))
        return [
            pool.spec.logical_id + (f" ({place})" if place else "")
            for pool, place in zip(pools, places, strict=True)
            if place is not None
        ]

    async def check(self, function: str) -> bytes | None:
        """Check that a function loads; keeps no unused environment, returns the failure."""
        pool = self._pools.get(function)
        return None if pool is None else await pool.check()

    async def close(self) -> None:
        pools = [*self._pools.values(), *self._closing]
        await asyncio.gather(*(pool.close() for pool in pools))


def trace_root(request_id: str) -> str:
    """The root of a request's trace: https://docs.aws.amazon.com/xray/latest/devguide/"""
    digits = request_id.replace("-", "")
    return f"Root=1-{digits[:8]}-{digits[8:]}"


def new_request_id() -> str:
    """A random UUID, as Lambda's request ids are."""
    # The uuid module takes eight times as long, on every request.
    digits = os.urandom(16).hex()
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
