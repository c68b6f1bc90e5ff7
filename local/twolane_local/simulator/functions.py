"""The functions of a run: execution environments in virtual time, several of a function at once."""

from __future__ import annotations

import asyncio
import json
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.functions import RecursionDetection, trace_root
from twolane_local.model import FunctionSpec
from twolane_local.testing.errors import EnvironmentKilled
from twolane_local.testing.threads import Ended, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twolane_local.simulator.host import Host


@dataclass(frozen=True, slots=True)
class Function:
    """``make(clock)`` is what the handler's module does at import: it gives the handler.

    ``unmake(handler, intact)`` is told of each at the end; one that was killed is not intact.
    """

    name: str
    make: Callable[[Callable[[], float]], Callable[[Any, Any], Any]]
    timeout_s: float
    most: int = 4
    unmake: Callable[[Any, bool], None] = lambda _handler, _intact: None
    #: It has threads of its own making, which cannot be cut off: over its time, it runs on unheard.
    lingers: bool = False
    recursive_loop: str = "Terminate"  # or "Allow"


@dataclass(frozen=True, slots=True)
class Context:
    """What a handler gets beside the event."""

    aws_request_id: str
    function_name: str
    deadline: float
    now: Callable[[], float]
    invoked_function_arn: str = ""
    memory_limit_in_mb: str = "1024"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds to the function's timeout, in virtual time."""
        return max(0, int((self.deadline - self.now()) * 1000))


class Environment:
    """One execution environment: a process with the handler that it has loaded."""

    def __init__(self, function: Function, number: int, world: Host) -> None:
        self.function = function
        self.name = f"{function.name}-{number}"
        self.process = Process(world.loop)
        self.cold = True
        #: The lease that the running task holds, and who it says holds it.
        self.lease: tuple[str, str] | None = None
        now = world.clock.time
        skews = [float(each.value("seconds")) for each in world.faults.at("clock", function.name)]
        self._clock = (lambda: now() + sum(skews)) if skews else now
        #: An exit that Lambda would report, where the fault says which.
        self.signal = -9
        self._handler: Callable[[Any, Any], Any] | None = None

    def handle(self, event: bytes, context: Context) -> bytes:
        """One invocation; on the process's thread."""
        if self._handler is None:
            self._handler = self.function.make(self._clock)
        answer = self._handler(json.loads(event), context)
        self.process.check()
        return json.dumps(answer).encode()

    def end(self, *, intact: bool) -> None:
        """Nothing of it is left when this returns; on the loop's thread."""
        self.process.close()
        if self._handler is not None:
            self.function.unmake(self._handler, intact)
            self._handler = None


class Functions:
    """Implements ``Invoker``."""

    def __init__(self, functions: Mapping[str, Function], world: Host) -> None:
        self._functions = functions
        self._world = world
        self._detection = RecursionDetection(world.journal)
        self._specs = {
            name: FunctionSpec(name, name, name, Path(), recursive_loop=function.recursive_loop)
            for name, function in functions.items()
        }
        self._idle: dict[str, list[Environment]] = {name: [] for name in functions}
        self._busy: dict[Process, Environment] = {}
        self._zombies: set[asyncio.Future[Any]] = set()
        self._made = 0

    def of(self, process: Process) -> Environment | None:
        """The environment whose process this is."""
        return self._busy.get(process)

    async def invoke(
        self,
        function: str,
        event: bytes,
        *,
        request_id: str | None = None,
        client_context: str = "",  # noqa: ARG002 - nobody gives one here
        trace_headers: Sequence[str] = (),
    ) -> Invocation:
        spec, identity = self._functions[function], request_id or self._world.new_id()
        line = self._detection.check(self._specs[function], trace_headers, identity)
        environment = self._environment(spec)
        now = self._world.clock.time
        context = Context(identity, function, now() + spec.timeout_s, now)
        self._busy[environment.process] = environment
        environment.process.trace_header = f"{trace_root(identity)};Sampled=0;{line}"
        future = environment.process.run(lambda: environment.handle(event, context))
        await asyncio.wait([future], timeout=spec.timeout_s)
        if not future.done():
            self._linger(environment, future)
            return Invocation(identity, report.timed_out(identity, spec.timeout_s), "Unhandled")
        return self._ended(environment, future, identity)

    def _environment(self, spec: Function) -> Environment:
        if self._idle[spec.name]:
            return self._idle[spec.name].pop()
        busy = [each for each in self._busy.values() if each.function is spec]
        if len(busy) >= spec.most:
            raise ThrottledError
        self._made += 1
        return Environment(spec, self._made, self._world)

    def _linger(self, environment: Environment, future: asyncio.Future[Any]) -> None:
        """Lambda kills what is over its time; what stands still in a stalled machine dies later,
        and may do something before.
        """
        if (
            environment.process not in self._world.points.frozen
            and not environment.function.lingers
        ):
            environment.process.kill()
            self._drop(environment)
            future.add_done_callback(_seen)
            return
        self._zombies.add(future)

        def thawed(done: asyncio.Future[Any]) -> None:
            _seen(done)
            self._zombies.discard(done)
            self._busy.pop(environment.process, None)
            environment.end(intact=not environment.process.dead)

        future.add_done_callback(thawed)

    def _ended(
        self, environment: Environment, future: asyncio.Future[Any], identity: str
    ) -> Invocation:
        error = future.exception()
        cause = error.cause if isinstance(error, Ended) else error
        if environment.process.dead or isinstance(cause, EnvironmentKilled):
            self._drop(environment)
            return Invocation(identity, report.exited(identity, environment.signal), "Unhandled")
        cold, environment.cold = environment.cold, False
        del self._busy[environment.process]
        self._idle[environment.function.name].append(environment)
        if cause is not None:
            trace = "".join(traceback.format_exception(cause))
            self._world.note("handler.raised", where=environment.name, trace=trace)
            payload = report.error(type(cause).__name__, str(cause))
            return Invocation(identity, payload, "Unhandled", cold=cold)
        return Invocation(identity, future.result(), cold=cold)

    def _drop(self, environment: Environment) -> None:
        self._busy.pop(environment.process, None)
        environment.end(intact=False)

    @property
    def at_work(self) -> int:
        """How many environments are in the middle of something, frozen ones included."""
        return len(self._busy)

    def close(self) -> None:
        """End every environment."""
        for environment in self._busy.values():
            environment.end(intact=False)
        for idle in self._idle.values():
            for environment in idle:
                environment.end(intact=True)


def _seen(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
