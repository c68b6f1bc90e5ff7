from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from twolane_local.checks.lint.rules.names import IN_PRACTICE, NO_RESOURCE, takes_no_resource


@pytest.fixture(scope="module")
def iam() -> dict[str, Any]:
    """cfn-lint's table: by service and action, in small letters, the resources that IAM knows."""
    spec = find_spec("cfnlint")
    assert spec is not None
    assert spec.origin is not None
    table = Path(spec.origin).parent / "data" / "AdditionalSpecs" / "Policies.json"
    return dict(json.loads(table.read_text()))


def resources(iam: dict[str, Any], action: str) -> list[str]:
    service, name = action.lower().split(":")
    return list(iam[service]["Actions"][name].get("Resources", []))


def test_iam_knows_no_resource_for_what_may_have_none(iam: dict[str, Any]) -> None:
    assert {action for action in NO_RESOURCE if resources(iam, action)} == set()


def test_iam_does_know_one_for_the_others(iam: dict[str, Any]) -> None:
    assert {action for action in IN_PRACTICE if not resources(iam, action)} == set()


def test_capitals_do_not_matter() -> None:
    assert takes_no_resource("XRay:putTraceSegments")
    assert not takes_no_resource("s3:GetObject")
    assert not takes_no_resource("*")
