"""Rules of FastAPI and Celery on Lambda, for a template, the application in it and its journal.

They look for what CloudFormation accepts and a night's operation does not. What cfn-lint knows
(schemas, types, references, a FIFO mapping's batch size) is left to it: run both.

``rules``           The rules. To add one, add it to a module there and to ``rules.RULES``.
``findings``        What a rule is, what it finds, and on which line.
``subject``         What rules look at: resources, application, journal.
``application``     The Celery application in a function; ``probe`` asks for it in a child process.
``physical_names``  The names that a template gives its resources.
``output``          Findings as text, JSON and SARIF.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twolane_local.checks.lint import application
from twolane_local.checks.lint.findings import Finding, Found, Lines, Rule, Severity
from twolane_local.checks.lint.rules import RULES
from twolane_local.checks.lint.subject import function_specs, read

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from twolane_local.checks.lint.subject import Subject
    from twolane_local.journal import Event

__all__ = ["RULES", "Finding", "Found", "Rule", "Severity", "findings", "lint"]


def lint(
    path: Path,
    parameters: Mapping[str, str],
    *,
    journal: Sequence[Event] = (),
    inline_budget_s: float = 2.0,
    ignore: Collection[str] = (),
    with_application: bool = True,
) -> list[Finding]:
    """What the rules find in the template, in the order of its lines.

    Raises ``TemplateError`` for a template that SAM refuses, ``HandlerImportError`` for a worker or
    beat function whose code does not import; ``with_application=False`` imports nothing.
    """
    subject = read(path, parameters)
    specs = list(function_specs(subject)) if with_application else []
    subject = replace(
        subject,
        applications=application.load(specs),
        journal=tuple(journal),
        inline_budget_s=inline_budget_s,
    )
    return findings(subject, ignore=ignore)


def findings(subject: Subject, *, ignore: Collection[str] = ()) -> list[Finding]:
    """What the rules find in what was read; it reads the template's text for its lines only."""
    lines = Lines(subject.path)
    # A queue that two functions read is looked at twice, and told of once.
    found = {
        _finding(subject, lines, rule, one)
        for rule in RULES
        if rule.id not in ignore
        for one in rule.check(subject)
        if not _is_excepted(subject, rule, one)
    }
    return sorted(found, key=lambda one: (str(one.path), one.line, one.rule.id, one.message))


def _is_excepted(subject: Subject, rule: Rule, found: Found) -> bool:
    """Whether the resource's own ``Metadata`` says, with a reason, that it may."""
    resource = subject.resources.get(found.resource)
    own = (resource.metadata if resource else {}).get("twolane") or {}
    return bool((own.get("ignore") or {}).get(rule.id))


def _finding(subject: Subject, lines: Lines, rule: Rule, found: Found) -> Finding:
    in_template = found.file is None
    return Finding(
        rule=rule,
        severity=found.severity or rule.severity,
        resource=found.resource,
        message=found.message,
        fix=found.fix,
        path=subject.path if found.file is None else found.file,
        line=lines.of(found.resource, found.path) if in_template else found.line,
    )
