"""Findings as SARIF 2.1.0, for code scanning and editors.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twolane_local.lint.findings import Finding, Rule

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def as_sarif(findings: Sequence[Finding], rules: Sequence[Rule]) -> dict[str, Any]:
    """One log with one run; every rule is described, also those that found nothing."""
    index = {rule.id: number for number, rule in enumerate(rules)}
    driver = {
        "name": "twolane lint",
        "semanticVersion": version("twolane"),
        "rules": [_rule(rule) for rule in rules],
    }
    results = [_result(finding, index[finding.rule.id]) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "help": {"text": f"docs/lint.md#{rule.anchor}"},
        "helpUri": rule.source,
        "defaultConfiguration": {"level": rule.severity.label},
    }


def _result(finding: Finding, rule_index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": {"uri": _uri(finding.path)},
        "region": {"startLine": finding.line},
    }
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": rule_index,
        "level": finding.severity.label,
        "message": {"text": f"{finding.message}. Fix: {finding.fix}."},
        "locations": [{"physicalLocation": place}],
        "partialFingerprints": {"twolane/v1": _fingerprint(finding)},
    }


def _uri(path: Path) -> str:
    """Relative to here, as code scanning wants it; absolute for what lies elsewhere."""
    whole = path.resolve()
    here = Path.cwd()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else whole.as_uri()


def _fingerprint(finding: Finding) -> str:
    """The same for the same thing after lines have moved."""
    text = f"{finding.rule.id}\n{_uri(finding.path)}\n{finding.resource}\n{finding.message}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
