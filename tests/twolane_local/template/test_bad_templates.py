"""A template that AWS refuses gives one line with file, line and field; no traceback, no hang."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.twolane_local.template.bad_templates import BAD

from twolane_local import template
from twolane_local.errors import LocalError
from twolane_local.template import stack

if TYPE_CHECKING:
    from pathlib import Path

#: Processor time, with the interpreter's start and the imports: about 1 s. A wall clock would also
#: measure the other processes on the machine.
MOST_S = 3.0
#: One that used to hang, and one that did not.
FEW = ("bomb", "name with =")


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in FEW else pytest.mark.slow) for each in BAD]
)
def test_up_says_one_line_and_ends(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    bad.write(tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0",
             "--quiet", "--no-console"],
            cwd=tmp_path,
            stdout=errors,
            stderr=errors,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )  # fmt: skip
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        lines = errors.read().splitlines()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 2, lines
    assert len(lines) == 1, lines
    assert bad.is_said_by(lines[0]), lines
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_S


@pytest.mark.parametrize("name", BAD)
def test_loading_says_the_same(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bad = BAD[name]
    path = bad.write(tmp_path)
    with pytest.raises(LocalError) as raised:
        stack.build(template.load(path, {}, stack_name="local"), FACTS)
    assert bad.is_said_by(str(raised.value))
    assert "\n" not in str(raised.value)


FACTS = stack.BuildContext(
    "http://127.0.0.1:1", lambda api: f"http://127.0.0.1:1/{api}", lambda name, _: name
)
