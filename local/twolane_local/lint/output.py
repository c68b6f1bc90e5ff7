"""Findings for a person, and as JSON for a script."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twolane_local.lint.findings import Finding, Rule


def as_text(findings: Sequence[Finding]) -> Iterator[str]:
    """Two lines each, the fix on the second, and a count."""
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


def listed(rules: Sequence[Rule]) -> Iterator[str]:
    """A line for each rule: how bad it is, what it looks at, what it asks for."""
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        head = f"{rule.id}  {rule.severity.label:<7}  {rule.needs:<11}  {rule.name:<{width}}"
        yield f"{head}  {rule.summary}"
