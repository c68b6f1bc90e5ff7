"""The tests of docs/testing.md, in one session on the demo application."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
_TESTS = r"^<!-- tested: NAME -->\n```python\n(.*?)^```$"


def run(pytester: pytest.Pytester, name: str, *, blocks: int, passed: int) -> None:
    pattern = re.compile(_TESTS.replace("NAME", name), re.MULTILINE | re.DOTALL)
    found = pattern.findall((ROOT / "docs" / "testing.md").read_text())
    assert len(found) == blocks
    pytester.makeini(
        f"[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
        f"pythonpath = {ROOT / 'handlers'} {ROOT / 'local'}\n"
    )
    pytester.path.joinpath("template.yaml").symlink_to(ROOT / "template.yaml")
    pytester.makepyfile(**{f"test_{number}": text for number, text in enumerate(found, 1)})
    result = pytester.runpytest_subprocess(
        "-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:randomly", "-p", "no:django"
    )
    result.assert_outcomes(passed=passed)


@pytest.mark.slow
def test_the_page_s_tests_pass(pytester: pytest.Pytester) -> None:
    run(pytester, "test_the_page_s_tests_pass", blocks=7, passed=10)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_page_s_live_test_passes(pytester: pytest.Pytester) -> None:
    run(pytester, "test_the_page_s_live_test_passes", blocks=1, passed=1)
