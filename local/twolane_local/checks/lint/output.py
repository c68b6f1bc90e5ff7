"""Writes findings as text, JSON and SARIF."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.checks.lint.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twolane_local.checks.lint.findings import Finding, Rule


def as_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield two lines for each finding, the second with the fix, and a line with the counts."""
    for finding in findings:
        yield (
            f"{finding.where}: {finding.severity.label} {finding.rule.id} {finding.rule.name}: "
            f"{finding.message}"
        )
        yield f"    {finding.fix}"
    counted = Counter(finding.severity for finding in findings)
    parts = [
        f"{counted[severity]} {severity.label}{'s' if counted[severity] > 1 else ''}"
        for severity in sorted(Severity, reverse=True)
        if counted[severity]
    ]
    yield ", ".join(parts) or "nothing found"


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """``[{"rule", "name", "severity", "path", "line", "resource", "message", "fix", "help"}]``."""
    return [
        {
            "rule": finding.rule.id,
            "name": finding.rule.name,
            "severity": finding.severity.label,
            "path": str(finding.path),
            "line": finding.line,
            "resource": finding.resource,
            "message": finding.message,
            "fix": finding.fix,
            "help": f"docs/lint.md#{finding.rule.anchor}",
        }
        for finding in findings
    ]


def rules_as_text(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield a line for each rule: its severity, what it needs, its summary."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        head = f"{rule.id}  {rule.severity.label:<7}  {rule.needs:<11}  {rule.name:<{width}}"
        yield f"{head}  {rule.summary}"


SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def as_sarif(findings: Sequence[Finding], rules: Sequence[Rule]) -> dict[str, Any]:
    """Return a log with one run; it describes every rule, also those without findings."""
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
    """Return a path relative to the current folder, as code scanning needs it, else absolute."""
    whole = path.resolve()
    current = Path.cwd()
    return (
        whole.relative_to(current).as_posix() if whole.is_relative_to(current) else whole.as_uri()
    )


def _fingerprint(finding: Finding) -> str:
    """Return a hash that stays the same when lines move."""
    text = f"{finding.rule.id}\n{_uri(finding.path)}\n{finding.resource}\n{finding.message}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
