from __future__ import annotations

import asyncio

import pytest

from twolane_local.aws.invocation import Invocation
from twolane_local.aws.lambda_.functions import EnvironmentStates, Functions
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec
from twolane_local.model.states import EnvironmentState


def test_each_environment_has_its_state_since_when_and_its_invocations():
    times = iter([10.0, 11.0, 12.0, 13.0, 15.0, 16.0, 18.0])
    states = EnvironmentStates(lambda: next(times))
    one, other = object(), object()
    states.started(one)
    states.started(other)
    states.idle(one)
    states.invoked(one, "a")
    assert states.current() == (
        EnvironmentState("1", "busy", 2.0, 1, ("a",)),
        EnvironmentState("2", "cold", 4.0, 0, ()),
    )
    states.removed(other)
    states.invoked(one, "b")  # from one invocation right into the next
    assert states.current() == (EnvironmentState("1", "busy", 2.0, 2, ("b", "a")),)


class Obedient:
    """An environment that waits for the test."""

    responded = False

    def __init__(self, owner):
        self.owner, self.work = owner, None

    def start(self):
        """Until ``owner.freed``."""

    def begin(self, work):
        self.work = work

    def end(self):
        self.work.done.set_result(Invocation(self.work.request_id, b"{}"))
        self.owner.freed(self)

    async def stop(self):
        """At once."""


@pytest.mark.parametrize("leaves", ["gone", "renewed"])
def test_a_pool_keeps_the_states(tmp_path, leaves):
    made = []

    def make(_, owner):
        made.append(Obedient(owner))
        return made[-1]

    async def main():
        spec = FunctionSpec("fn", "Fn", "m.h", tmp_path)
        functions = Functions([spec], make, Journal(SystemClock()))

        def states():
            state = functions.states()["fn"]
            assert len(state.environments) == state.busy + state.idle + state.starting
            return [(each.state, each.invocations) for each in state.environments]

        work = functions.submit("fn", b"{}", request_id="first")
        assert states() == [("cold", 0)]
        made[0].owner.freed(made[0])
        assert states() == [("busy", 1)]
        assert functions.states()["fn"].environments[0].requests == ("first",)
        made[0].end()
        await work.done
        assert states() == [("frozen", 1)]
        if leaves == "gone":
            made[0].owner.gone(made[0], None)
        else:
            functions.apply([spec], renew=lambda _: True)
        assert states() == []
        functions.submit("fn", b"{}").done.add_done_callback(lambda done: done.exception())
        assert functions.states()["fn"].environments[0].id == "2"
        await functions.close()
        assert states() == []

    asyncio.run(main())
