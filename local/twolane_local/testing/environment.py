"""An execution environment of a test: the handler in this process, on virtual time.

Implements the Protocol ``Environment``. Init, response first, work after it, timeout
and kill are as on Lambda; how long code takes to compute is not counted.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.inprocess import Context, error_object, load_error
from twolane_local.aws.lambda_.report import KILLED
from twolane_local.testing.threads import Ended, Process

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Container, Mapping

    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec
    from twolane_local.testing.world import World

    Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class VirtualContext(Context):
    """``deadline`` is in seconds since the epoch, on the virtual clock."""

    now: Callable[[], float] = float

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - self.now()) * 1000))


class VirtualEnvironment:
    """``load`` gives the handler, on the environment's own thread."""

    def __init__(
        self,
        spec: FunctionSpec,
        environ: Mapping[str, str],
        *,
        owner: Owner,
        world: World,
        journal: Journal,
        load: Callable[[], Handler],
        after: Callable[[str], Callable[[], None] | None],
        killed: Callable[[Handler], None],
        turn: Callable[[], None] = lambda: None,
        frozen: Container[Process] = (),
    ) -> None:
        """``turn`` is called before each invocation, ``after`` gives the work that a request has
        left to be done after its response, ``killed`` hears of a handler that died in the middle
        of something; what is ``frozen`` cannot be killed before it goes on.
        """
        self.spec = spec
        self.process = Process(world.loop)
        self.responded = False
        self._environ = environ
        self._owner, self._world, self._journal = owner, world, journal
        self._load, self._after, self._killed = load, after, killed
        self._turn, self._frozen = turn, frozen
        self._handler: Handler | None = None
        self._work: Work | None = None
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._cold = True
        self.process.about = (spec.name, None)

    @property
    def busy(self) -> bool:
        """Whether it has an invocation, or work after one."""
        return self._work is not None

    def start(self) -> None:
        began = self._world.now
        self.process.run(self._init).add_done_callback(partial(self._started, began))

    def _init(self) -> Handler:
        os.environ.update(self._environ)
        return self._load()

    def _started(self, began: float, done: asyncio.Future[Handler]) -> None:
        error = done.exception()
        if error is not None:
            self.process.close()
            cause = error.cause if isinstance(error, Ended) else error
            self._owner.gone(self, load_error(self.spec.handler, cause))
            return
        self._handler = done.result()
        self._journal.record(
            "environment.started",
            function=self.spec.name,
            initMs=round((self._world.now - began) * 1000, 2),
        )
        self._owner.freed(self)

    def begin(self, work: Work) -> None:
        self._turn()
        self._work, self.responded, self._began = work, False, self._world.now
        self.process.about = (self.spec.name, work.request_id)
        self.process.trace_header = work.trace_id
        deadline = self._began + self.spec.timeout_s
        work.deadline_ms = int(deadline * 1000)
        work.record.started(cold=self._cold)
        context = VirtualContext(
            aws_request_id=work.request_id,
            function_name=self.spec.name,
            invoked_function_arn=work.invoked_arn or self.spec.arn,
            memory_limit_in_mb=str(self.spec.memory_mb),
            deadline=deadline,
            log_group_name=f"/aws/lambda/{self.spec.name}",
            now=self._world.loop.time,
        )
        self._timer = self._world.loop.call_later(self.spec.timeout_s, self._timed_out)
        self.process.run(partial(self._call, work.event, context)).add_done_callback(self._returned)

    def _call(self, event: bytes, context: VirtualContext) -> tuple[bytes, str | None]:
        if self._handler is None:
            raise RuntimeError("the environment is not free")
        os.environ.update(self._environ)
        try:
            result = self._handler(json.loads(event), context)
        except Exception as error:  # noqa: BLE001 (a function's own error is a result)
            return error_object(error, context.aws_request_id), "Unhandled"
        try:
            return json.dumps(result, ensure_ascii=False).encode(), None
        except (TypeError, ValueError) as error:
            message = f"Unable to marshal response: {error}"
            return report.error("Runtime.MarshalError", message), "Unhandled"

    def _returned(self, done: asyncio.Future[tuple[bytes, str | None]]) -> None:
        error, work = done.exception(), self._work
        if work is None:  # it is gone: what its threads still raise is not heard
            self.process.close()
            return
        if error is not None:  # what is no Exception ends the process
            self.kill()
            return
        self._respond(*done.result())
        after = self._after(work.request_id)
        if after is None:
            self._free()
        else:
            self.process.run(after).add_done_callback(self._after_done)

    def _after_done(self, done: asyncio.Future[None]) -> None:
        error = done.exception()
        if self._work is None:
            return
        if isinstance(error, Ended):
            self.kill()
        else:
            self._free()

    def _respond(self, payload: bytes, error: str | None) -> None:
        work = self._work
        if work is None or self.responded:
            return
        self.responded = True
        duration_ms = round((self._world.now - self._began) * 1000, 2)
        work.record.responded(duration_ms, error, None if error is None else payload)
        if not work.done.done():
            work.done.set_result(
                Invocation(work.request_id, payload, error, bytes, self._cold, duration_ms)
            )

    def _free(self) -> None:
        self._ended()
        self._cold = False
        self._owner.freed(self)

    def _ended(self, reason: str = "") -> None:
        work, self._work = self._work, None
        if self._timer is not None:
            self._timer.cancel()
        if work is not None:
            # In virtual time: what code takes to compute is nothing.
            figures = report.Report(
                duration_ms=(self._world.now - self._began) * 1000,
                memory_mb=self.spec.memory_mb,
                max_memory_mb=0,
                init_ms=None,
            )
            work.record.ended(figures, reason)

    def _timed_out(self) -> None:
        work = self._work
        if work is None:
            return
        payload = report.timed_out(work.request_id, self.spec.timeout_s)
        reason = f"timed out after {self.spec.timeout_s:g} s"
        if self.process in self._frozen:
            # A stalled machine: Lambda has given it up, and it may do something before it ends.
            self._leave(payload, reason)
        else:
            self.kill(payload, reason)

    def kill(self, payload: bytes | None = None, reason: str = KILLED) -> None:
        """End the environment at once; ``payload`` is the error object of its invocation."""
        self.process.kill()  # its threads end now; what they return is not heard
        self.process.close()
        self._leave(payload, reason)

    def _leave(self, payload: bytes | None, reason: str) -> None:
        work, handler = self._work, self._handler
        if self._timer is not None:
            self._timer.cancel()
        self._handler = None
        if handler is not None:
            self._killed(handler)
        if work is not None:
            self._respond(payload or report.exited(work.request_id, -9), "Unhandled")
            self._ended(reason)
        self._journal.record("environment.stopped", function=self.spec.name, killed=True)
        self._owner.gone(self, None)

    async def where(self) -> str:
        return ""

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._work is not None and self._handler is not None:
            self._killed(self._handler)
        self._work = None
        self.process.close()
