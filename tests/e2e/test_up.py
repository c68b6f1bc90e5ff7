"""`twolane up` on template.yaml, as `make up` starts it, by the README's own lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from . import scenarios
from .conftest import BIN, Service, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("up")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("up") / "log"
    command = [str(BIN / "twolane"), "up", "--json", "--port", "0", "--aws-port", "0"]
    with running(command, log) as process:
        said = until(lambda: ready(log, process.poll()), "line of JSON", seconds=30)
        yield Service(said["api"], log, said["aws"])


def ready(log: Path, code: int | None) -> dict[str, Any] | None:
    assert code is None, log.read_text()
    for line in log.read_text().splitlines():
        if line.startswith('{"'):
            return dict(json.loads(line))
    return None


@pytest.mark.parametrize(
    "scenario",
    [
        scenarios.inline,
        scenarios.deferred,
        scenarios.campaign,
        scenarios.imported,
        scenarios.retried,
        scenarios.revoked,
        scenarios.exhausted,
    ],
)
def test_scenario(service: Service, scenario: Callable[[Service], None]) -> None:
    scenario(service)
