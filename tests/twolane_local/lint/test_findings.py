from __future__ import annotations

from pathlib import Path

from twolane_local.checks.lint.findings import Finding, Rule, Severity

RULE = Rule("TL999", "some-rule", Severity.WARNING, "It holds.", "https://example.com", iter)


def test_severities_have_an_order_and_sarifs_names() -> None:
    assert Severity.ERROR > Severity.WARNING > Severity.NOTE
    assert [severity.label for severity in Severity] == ["note", "warning", "error"]


def test_a_rules_anchor_is_that_of_its_heading() -> None:
    assert RULE.anchor == "tl999-some-rule"


def test_a_finding_says_where_it_is_as_compilers_do() -> None:
    finding = Finding(RULE, RULE.severity, "Q", "It does not.", "Do.", Path("a/b.yaml"), 7)
    assert finding.where == "a/b.yaml:7"
    assert finding == Finding(RULE, RULE.severity, "Q", "It does not.", "Do.", Path("a/b.yaml"), 7)
