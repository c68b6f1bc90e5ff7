from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.invocation import Invocation, ThrottledError
from twolane_local.aws.lambda_ import functions as pool
from twolane_local.aws.lambda_.functions import PATIENCE_S, Functions
from twolane_local.clock import SystemClock
from twolane_local.clock.virtual import VirtualClock, run_virtual
from twolane_local.journal import Journal
from twolane_local.model import FunctionSpec

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.aws.lambda_.environment import Owner, Work


class Scripted:
    """An environment that the test controls step by step."""

    made: list[Scripted]

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.responded = False
        self.work: Work | None = None
        self.stopped = False

    def start(self) -> None:
        pass

    def begin(self, work: Work) -> None:
        assert self.work is None
        self.work = work
        self.responded = False

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        return Invocation(work.request_id, failure, "Unhandled")

    async def stop(self) -> None:
        self.stopped = True

    def ready(self) -> None:
        self.owner.freed(self)

    def respond(self) -> None:
        assert self.work is not None
        self.responded = True
        self.work.done.set_result(Invocation(self.work.request_id, self.work.event))

    def end(self) -> None:
        self.work = None
        self.owner.freed(self)


class Stage:
    def __init__(self, folder: Path, **fields: Any) -> None:
        self.made: list[Scripted] = []
        self.journal = Journal(SystemClock())
        spec = FunctionSpec("fn", "Fn", "m.h", folder, **fields)

        def make(_: FunctionSpec, owner: Owner) -> Scripted:
            self.made.append(Scripted(owner))
            return self.made[-1]

        self.functions = Functions([spec], make, self.journal, maximum=4)

    def submit(self, event: bytes = b"{}") -> asyncio.Future[Invocation]:
        return self.functions.submit("fn", event).done


def run(folder: Path, script: Any, **fields: Any) -> None:
    async def main() -> None:
        stage = Stage(folder, **fields)
        await script(stage)
        await stage.functions.close()
        assert len(stage.functions) == 0

    asyncio.run(main())


async def patience() -> None:
    await asyncio.sleep(PATIENCE_S * 1.5)


def test_the_first_work_starts_an_environment(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        done = stage.submit(b"1")
        (only,) = stage.made
        only.ready()
        only.respond()
        assert (await done).payload == b"1"

    run(tmp_path, script)


def test_work_waits_for_a_busy_environment_before_a_new_one_is_made(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        first = stage.submit(b"1")
        stage.made[0].ready()
        second = stage.submit(b"2")
        stage.made[0].respond()
        stage.made[0].end()
        stage.made[0].respond()
        assert [(await first).payload, (await second).payload] == [b"1", b"2"]
        await patience()
        assert len(stage.made) == 1

    run(tmp_path, script)


def test_an_environment_is_made_once_patience_is_over(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        second = stage.submit(b"2")
        await patience()
        stage.made[1].ready()
        stage.made[1].respond()
        assert (await second).payload == b"2"

    run(tmp_path, script)


@pytest.mark.parametrize(("waiting", "made"), [(1, 2), (0, 1)])
def test_a_line_that_never_empties_gets_one_more_environment(
    tmp_path: Path, waiting: int, made: int
) -> None:
    """No work of it waits for long, and yet there is always more of it than can run."""

    async def main(clock: VirtualClock) -> None:
        stage = Stage(tmp_path)
        stage.submit()
        first = stage.made[0]
        first.ready()
        for _ in range(waiting):
            stage.submit()
        for _ in range(15):
            await clock.sleep(PATIENCE_S / 10)
            stage.submit()
            first.respond()
            first.end()
        assert len(stage.made) == made
        await stage.functions.close()

    run_virtual(main)


def test_no_more_environments_start_than_work_waits_nor_than_the_limit(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        for _ in range(10):
            stage.submit()
        await patience()
        assert len(stage.made) == 4

    run(tmp_path, script)


def test_waiting_work_is_taken_in_order(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        done = [stage.submit(str(number).encode()) for number in range(3)]
        only = stage.made[0]
        only.ready()
        for number, future in enumerate(done):
            only.respond()
            assert (await future).payload == str(number).encode()
            only.end()

    run(tmp_path, script)


def test_reserved_concurrency_throttles(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        with pytest.raises(ThrottledError):
            stage.submit()
        assert [event.kind for event in stage.journal] == ["invocation.throttled"]

    run(tmp_path, script, reserved_concurrency=1)


def test_a_function_that_is_switched_off_holds_no_start_up(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        assert await asyncio.wait_for(stage.functions.warm(), 5) == {}
        await asyncio.wait_for(stage.functions.provision("fn", 2), 5)
        assert not stage.made

    run(tmp_path, script, reserved_concurrency=0)


def test_reserved_zero_is_always_throttled(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        with pytest.raises(ThrottledError):
            stage.submit()
        assert not stage.made

    run(tmp_path, script, reserved_concurrency=0)


def test_one_that_has_answered_does_not_throttle_the_next(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        stage.made[0].respond()
        second = stage.submit(b"2")
        stage.made[0].end()
        stage.made[0].respond()
        assert (await second).payload == b"2"

    run(tmp_path, script, reserved_concurrency=1)


def test_a_failed_init_answers_the_work_that_it_was_for(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        done = stage.submit()
        stage.made[0].owner.gone(stage.made[0], b'{"errorType":"X"}')
        outcome = await done
        assert (outcome.error, outcome.payload) == ("Unhandled", b'{"errorType":"X"}')

    run(tmp_path, script)


def test_work_that_waits_survives_an_environment_that_dies(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        second = stage.submit(b"2")
        stage.made[0].respond()
        stage.made[0].owner.gone(stage.made[0], None)
        stage.made[1].ready()
        stage.made[1].respond()
        assert (await second).payload == b"2"

    run(tmp_path, script)


def test_work_whose_caller_went_away_is_not_run(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        abandoned = stage.submit(b"1")
        abandoned.cancel()
        second = stage.submit(b"2")
        stage.made[0].ready()
        stage.made[0].respond()
        assert (await second).payload == b"2"

    run(tmp_path, script)


def test_an_unknown_function(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        with pytest.raises(KeyError):
            await stage.functions.invoke("nobody", b"{}")

    run(tmp_path, script)


def test_a_changed_function_ends_its_work_on_the_old_environment(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        first = stage.submit(b"1")
        (old,) = stage.made
        old.ready()
        stage.functions.apply([stage.functions.specs["fn"]], renew=lambda _: True)
        second = stage.submit(b"2")
        await patience()
        _, new = stage.made
        new.ready()
        new.respond()
        assert (await second).payload == b"2"
        old.respond()
        assert (await first).payload == b"1"
        old.end()
        await asyncio.sleep(0)
        assert (old.stopped, new.stopped) == (True, False)

    run(tmp_path, script)


def test_an_unchanged_function_keeps_its_environments(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        stage.made[0].respond()
        stage.made[0].end()
        stage.functions.apply([stage.functions.specs["fn"]])
        await asyncio.sleep(0)
        assert not stage.made[0].stopped

    run(tmp_path, script)


def test_a_function_that_is_gone_is_unknown_and_its_environments_end(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        stage.submit()
        stage.made[0].ready()
        stage.made[0].respond()
        stage.made[0].end()
        stage.functions.apply([])
        await asyncio.sleep(0)
        assert stage.made[0].stopped
        with pytest.raises(KeyError):
            stage.submit()

    run(tmp_path, script)


def test_environments_beyond_demand_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "IDLE_S", 0.02)

    async def script(stage: Stage) -> None:
        provisioning = asyncio.create_task(stage.functions.provision("fn", 3))
        await asyncio.sleep(0)
        for environment in stage.made:
            environment.ready()
        await provisioning
        async with asyncio.timeout(10):
            while len(stage.functions) > 1:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0)
        assert [environment.stopped for environment in stage.made] == [True, True, False]

    run(tmp_path, script)


def test_nobody_waits_for_the_init_of_a_function_that_was_deleted_or_changed(
    tmp_path: Path,
) -> None:
    async def script(stage: Stage) -> None:
        spec = stage.functions.specs["fn"]
        changed = asyncio.ensure_future(stage.functions.warm())
        await patience()
        stage.functions.apply([replace(spec, memory_mb=256)])
        stage.made[0].ready()  # of the former one
        stage.made[1].ready()
        assert await asyncio.wait_for(changed, 5) == {}
        stage.functions.apply([replace(spec, memory_mb=512)])
        deleted = asyncio.ensure_future(stage.functions.warm())
        await patience()
        stage.functions.apply([])
        assert await asyncio.wait_for(deleted, 5) == {}
        stage.made[2].ready()

    run(tmp_path, script)
