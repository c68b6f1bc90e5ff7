"""`twolane_local.doctor` as a whole, on a project of which nothing is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.doctor import examine
from twolane_local.doctor.findings import LEVELS, Finding, ok

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_without_a_template_it_still_looks_at_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    found = list(examine(tmp_path / "template.yaml", {}, ports=[0], variables={}))
    checks = [finding.check for finding in found]
    assert checks[0] == "python"
    assert checks[-1] == "template"
    assert found[-1].level == "error"
    assert {finding.level for finding in found} <= set(LEVELS)


def test_findings_as_json_leave_out_what_is_not_there() -> None:
    assert ok("redis", "there").as_dict() == {"check": "redis", "level": "ok", "what": "there"}
    assert Finding("redis", "note", "none", "install it").as_dict()["do"] == "install it"
