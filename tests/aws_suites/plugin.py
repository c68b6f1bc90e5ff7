"""Selects the tests that passed against AWS, and compares what fails with the suite's list.

The list, ``NAME.txt``, holds a test's id, a tab and the reason on each line; ``#`` starts a
comment, a test that a slow machine may fail has ``slow:`` before its reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

PREFIX = "tests/aws/services/"


def read_list(path: Path) -> dict[str, str]:
    """Test → reason."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    listed: dict[str, str] = {}
    for line in lines:
        test, tab, reason = line.partition("\t")
        if not tab or not reason or test in listed:
            raise pytest.UsageError(f"{path.name}: not one test and its reason: {line!r}")
        listed[test] = reason
    return listed


class Expectations:
    """What does not pass, against what is listed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.listed = read_list(Path(__file__).with_name(f"{name}.txt"))
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.skipped: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.removeprefix(PREFIX)
        if report.failed:
            self.failed.add(test)
            self.passed.discard(test)
        elif report.skipped:
            self.skipped.add(test)
        elif report.when == "call":
            self.passed.add(test)

    def problems(self) -> list[str]:
        unlisted = sorted(self.failed - self.listed.keys())
        stale = sorted(
            test
            for test, reason in self.listed.items()
            if test in self.passed and not reason.startswith("slow:")
        )
        file = f"{self.name}.txt"
        return [f"failed, and is not in {file}: {test}" for test in unlisted] + [
            f"passed, but is in {file}: {test}" for test in stale
        ]


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Expectations(os.environ["AWS_SUITE"]), "expectations")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skipped = bool(os.environ["AWS_SUITE_SKIPPED"])
    wanted = [
        item
        for item in items
        if item.get_closest_marker("aws_validated")
        and bool(item.get_closest_marker("skip")) == skipped
    ]
    for item in wanted if skipped else ():
        item.own_markers = [mark for mark in item.own_markers if mark.name != "skip"]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
    _point_at(os.environ["TEST_AWS_ENDPOINT_URL"])


def _point_at(endpoint: str) -> None:
    """Some tests ask LocalStack's settings for the address; the suite's conftest sets it."""
    from localstack import config

    address = urlsplit(endpoint)
    config.GATEWAY_LISTEN = config.UniqueHostAndPortList(
        [config.HostAndPort(host=address.hostname, port=address.port)]
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    expectations = session.config.pluginmanager.get_plugin("expectations")
    if expectations is not None and not session.config.option.collectonly:
        session.exitstatus = 1 if expectations.problems() or not expectations.passed else 0


def pytest_terminal_summary(terminalreporter: Any) -> None:
    expectations = terminalreporter.config.pluginmanager.get_plugin("expectations")
    if expectations is None:
        return
    terminalreporter.section(f"{expectations.name}: tests that passed against AWS")
    terminalreporter.line(
        f"{len(expectations.passed)} passed, {len(expectations.failed)} failed, "
        f"{len(expectations.skipped)} skipped; {len(expectations.listed)} are listed"
    )
    for problem in expectations.problems():
        terminalreporter.line(problem, red=True)
