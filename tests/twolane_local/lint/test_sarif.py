"""SARIF 2.1.0: the fields that the standard requires, and those that code scanning wants."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING

from twolane_local.checks.lint import check
from twolane_local.checks.lint import findings as output
from twolane_local.checks.lint.rules import RULES
from twolane_local.checks.lint.subject import read_subject

if TYPE_CHECKING:
    import pytest

    from .conftest import Project


def test_a_finding_in_sarif(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    found = check(read_subject(project.template, {}))
    log = json.loads(json.dumps(output.as_sarif(found, RULES)))
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "twolane lint"
    assert driver["semanticVersion"] == version("twolane")
    assert [rule["id"] for rule in driver["rules"]] == [rule.id for rule in RULES]
    (result,) = run["results"]
    fingerprint = result.pop("partialFingerprints")
    assert len(fingerprint["twolane/v1"]) == 32
    assert result == {
        "ruleId": "TL102",
        "ruleIndex": 1,
        "level": "warning",
        "message": {
            "text": "Tasks sends a message to the dead-letter queue after 4 receives; throttled "
            "batches count as receives, so messages that never ran land there. Fix: set "
            "maxReceiveCount: 5 or more."
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "template.yaml"},
                    "region": {"startLine": project.line("maxReceiveCount")},
                }
            }
        ],
    }
    assert driver["rules"][1]["defaultConfiguration"] == {"level": "warning"}


def test_the_fingerprint_outlives_a_line(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    before = output.as_sarif(check(read_subject(project.template, {})), RULES)
    project.change("Resources:", "# moved\nResources:")
    after = output.as_sarif(check(read_subject(project.template, {})), RULES)
    one, other = (log["runs"][0]["results"][0] for log in (before, after))
    assert one["partialFingerprints"] == other["partialFingerprints"]
    assert one["locations"] != other["locations"]


def test_a_file_that_lies_elsewhere_is_absolute(project: Project) -> None:
    project.change("maxReceiveCount: 5", "maxReceiveCount: 4")
    log = output.as_sarif(check(read_subject(project.template, {})), RULES)
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == project.template.as_uri()


def test_nothing_found_is_a_run_with_no_results(project: Project) -> None:
    (run,) = output.as_sarif([], RULES)["runs"]
    assert run["results"] == []
    levels = {rule["defaultConfiguration"]["level"] for rule in run["tool"]["driver"]["rules"]}
    assert levels <= {"none", "note", "warning", "error"}
