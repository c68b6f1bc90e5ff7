"""The tests of docs/testing.md, in one session on the demo application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[3]
_TESTS = re.compile(r"^<!-- tested: [^\n]* -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_page_s_tests_pass(pytester: pytest.Pytester) -> None:
    blocks = _TESTS.findall((ROOT / "docs" / "testing.md").read_text())
    assert len(blocks) == 6
    pytester.makeini(
        f"[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"
        f"pythonpath = {ROOT / 'handlers'} {ROOT / 'local'}\n"
    )
    pytester.path.joinpath("template.yaml").symlink_to(ROOT / "template.yaml")
    pytester.makepyfile(**{f"test_{number}": text for number, text in enumerate(blocks, 1)})
    result = pytester.runpytest_subprocess("-p", "no:schemathesis", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=9)
