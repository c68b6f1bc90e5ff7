"""With an issuer named, nobody without a token reaches a function."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from twolane_local.emulator import Emulator
from twolane_local.model.options import Options

from .conftest import ROOT


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer no.such.token"}])
def test_the_gateway_refuses(header: dict[str, str], own_environ: None) -> None:
    async def main() -> None:
        parameters = {"JwtIssuer": "https://issuer.invalid", "JwtAudience": "shop"}
        options = Options(
            ROOT / "template.yaml", port=0, aws_port=0, parameters=parameters, warm=False
        )
        emulator = Emulator(options)
        await emulator.start()
        try:
            (url,) = emulator.addresses.apis.values()
            async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
                for path in ("/healthz", "/tasks/1", "/docs"):
                    assert (await http.get(path, headers=header)).status_code == 401
        finally:
            await emulator.stop()
        assert not [event for event in emulator.journal if event.kind.startswith("invocation")]
        assert [event for event in emulator.journal if event.kind == "request.answered"]

    asyncio.run(main())
