"""Runs Mangum's own test suite with ``ApiHandler`` in its place: ``pytest -p plugin``.

Start it through ``make mangum-suite`` (which fetches Mangum's source distribution; none of it is
part of this repository) or ``make mangum-suite SUITE=DIR`` with an unpacked one. The suite is
unmodified.

Every test that does not pass must be in ``expected.toml`` with its reason, and every test that is
there must not pass: the run fails otherwise. Tests that need LocalStack in Docker are left out.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import mangum
import mangum.adapter
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "handlers"))

from twolane import ApiHandler  # noqa: E402

# Only the tests that are left out use it.
sys.modules.setdefault("httpx2", httpx)


class Replacement(ApiHandler):
    """``ApiHandler``, closed after the test that made it."""

    made: list[Replacement] = []  # noqa: RUF012 -- one list for all is the point

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs, environ={})
        self.made.append(self)


mangum.Mangum = Replacement  # type: ignore[misc]
mangum.adapter.Mangum = Replacement  # type: ignore[misc]


@pytest.fixture(autouse=True)
def close_handlers() -> Iterator[None]:
    yield
    while Replacement.made:
        handler = Replacement.made.pop()
        try:
            handler.close()
        except mangum.exceptions.LifespanFailure:
            continue  # a test of that very failure


class Expectations:
    """What does not pass, against what is listed."""

    def __init__(self, listed: dict[str, str]) -> None:
        self.listed = listed
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.removeprefix("tests/")
        if report.outcome == "failed":
            self.failed.add(name)
            self.passed.discard(name)
        elif report.when == "call" and report.outcome == "passed":
            self.passed.add(name)

    def problems(self) -> list[str]:
        unlisted = sorted(self.failed - self.listed.keys())
        stale = sorted(self.listed.keys() - self.failed)
        return [f"failed, and is not in expected.toml: {name}" for name in unlisted] + [
            f"did not fail, but is in expected.toml: {name}" for name in stale
        ]


def pytest_configure(config: pytest.Config) -> None:
    listed = tomllib.loads((HERE / "expected.toml").read_text())
    names = {name: group["why"] for group in listed.values() for name in group["tests"]}
    config.pluginmanager.register(Expectations(names), "expectations")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    docker = [item for item in items if "localstack" in getattr(item, "fixturenames", ())]
    items[:] = [item for item in items if item not in docker]
    config.hook.pytest_deselected(items=docker)


def pytest_sessionfinish(session: pytest.Session) -> None:
    expectations = session.config.pluginmanager.get_plugin("expectations")
    session.exitstatus = 1 if expectations.problems() or not expectations.passed else 0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    expectations = terminalreporter.config.pluginmanager.get_plugin("expectations")
    terminalreporter.section("Mangum's own suite with ApiHandler in its place")
    terminalreporter.line(
        f"{len(expectations.passed)} passed, {len(expectations.failed)} did not pass, "
        f"{len(expectations.listed)} are listed as not to pass"
    )
    for problem in expectations.problems():
        terminalreporter.line(problem, red=True)
