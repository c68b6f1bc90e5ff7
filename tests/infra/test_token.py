"""With an issuer named, nobody without a token reaches a function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from twolane_local.model import Options

from .conftest import ROOT

if TYPE_CHECKING:
    from twolane_local.emulator import Emulator

    from ..conftest import Emulate  # noqa: TID252


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer no.such.token"}])
def test_the_gateway_refuses(header: dict[str, str], emulate: Emulate) -> None:
    async def script(emulator: Emulator) -> None:
        (url,) = emulator.addresses.apis.values()
        async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
            for path in ("/healthz", "/tasks/1", "/docs"):
                assert (await http.get(path, headers=header)).status_code == 401
        assert not [event for event in emulator.journal if event.kind.startswith("invocation")]
        assert [event for event in emulator.journal if event.kind == "request.answered"]

    parameters = {"JwtIssuer": "https://issuer.invalid", "JwtAudience": "shop"}
    emulate(
        Options(ROOT / "template.yaml", port=0, aws_port=0, parameters=parameters, warm=False),
        script,
    )
