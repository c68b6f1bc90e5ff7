from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.simulator.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.simulator.world import World


def test_a_world_is_all_that_its_parts_need(world_of: Callable[..., World]) -> None:
    """mypy checks the types; this checks what a world has only once it runs."""
    wanted = {*Host.__annotations__, *(name for name in vars(Host) if not name.startswith("_"))}
    missing: list[Any] = []

    async def script(world: World) -> None:
        missing.extend(name for name in wanted if not hasattr(world, name))

    world_of().run(script)
    assert len(wanted) > 10
    assert missing == []
