"""Tenant isolation: https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from tests.twolane_local.lambda_.test_functions import Stage, patience

from twolane_local.aws.invocation import TenancyError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.twolane_local.lambda_.test_functions import Scripted

    from twolane_local.aws.invocation import Invocation


def run(folder: Path, script: Any, **fields: Any) -> None:
    async def main() -> None:
        stage = Stage(folder, tenant_isolation=True, **fields)
        await script(stage)
        await stage.functions.close()
        assert len(stage.functions) == 0

    asyncio.run(main())


def submit(stage: Stage, tenant: str) -> asyncio.Future[Invocation]:
    return stage.functions.submit("fn", tenant.encode(), tenant_id=tenant).done


def tenant_of(environment: Scripted) -> str:
    assert environment.work is not None
    return environment.work.tenant_id


def finish(environment: Scripted) -> None:
    environment.respond()
    environment.end()


def test_an_environment_serves_one_tenant_only(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        first = submit(stage, "blue")
        stage.made[0].ready()
        finish(stage.made[0])
        assert (await first).payload == b"blue"
        green = submit(stage, "green")
        await patience()
        assert len(stage.made) == 2
        stage.made[1].ready()
        assert (tenant_of(stage.made[1]), stage.made[0].work) == ("green", None)
        finish(stage.made[1])
        await green
        for tenant, environment in (("blue", 0), ("green", 1), ("blue", 0)):
            again = submit(stage, tenant)
            assert tenant_of(stage.made[environment]) == tenant
            finish(stage.made[environment])
            await again
        assert len(stage.made) == 2

    run(tmp_path, script)


def test_an_environment_that_has_served_nobody_takes_any_tenant(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        warmed = asyncio.ensure_future(stage.functions.warm())
        while not stage.made:
            await asyncio.sleep(0)
        stage.made[0].ready()
        await warmed
        submit(stage, "blue")
        assert tenant_of(stage.made[0]) == "blue"
        finish(stage.made[0])

    run(tmp_path, script)


def test_work_of_one_tenant_does_not_hold_up_anothers(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        submit(stage, "blue")
        stage.made[0].ready()
        blue, green, more = (submit(stage, tenant) for tenant in ("green", "blue", "green"))
        finish(stage.made[0])
        assert tenant_of(stage.made[0]) == "blue"
        await patience()
        for environment in stage.made[1:]:
            environment.ready()
        finish(stage.made[0])
        while not (blue.done() and green.done() and more.done()):
            for environment in stage.made[1:]:
                if environment.work is not None:
                    assert tenant_of(environment) == "green"
                    finish(environment)

    run(tmp_path, script)


def test_at_the_limit_an_idle_environment_of_another_tenant_makes_room(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        for number in range(4):  # the stage's limit
            submit(stage, str(number))
            await patience()
            stage.made[number].ready()
        late = submit(stage, "late")
        await patience()
        assert len(stage.made) == 4
        finish(stage.made[2])
        await asyncio.sleep(0)
        assert len(stage.made) == 5
        stage.made[4].ready()
        assert tenant_of(stage.made[4]) == "late"
        finish(stage.made[4])
        assert (await late).payload == b"late"
        assert [each.stopped for each in stage.made] == [False, False, True, False, False]
        for environment in (stage.made[0], stage.made[1], stage.made[3]):
            finish(environment)

    run(tmp_path, script)


def test_an_invocation_without_a_tenant_is_refused(tmp_path: Path) -> None:
    async def script(stage: Stage) -> None:
        with pytest.raises(TenancyError, match="Add a valid tenant ID in your request"):
            stage.submit()

    run(tmp_path, script)


def test_a_tenant_of_a_function_that_isolates_none_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        stage = Stage(tmp_path)
        with pytest.raises(TenancyError, match="Remove the tenant ID from your request"):
            submit(stage, "blue")
        await stage.functions.close()

    asyncio.run(main())
