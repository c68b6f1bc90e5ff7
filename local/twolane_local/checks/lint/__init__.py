"""Checks a template, the application in it and its journal for mistakes with FastAPI and Celery on
Lambda.

The rules find mistakes that CloudFormation accepts and that fail in operation. They leave to
cfn-lint what it checks (schemas, types, references, a FIFO mapping's batch size): run both.

``rules``           The rules. To add one, decorate its check with ``rule``, list it in ``RULES``.
``findings``        Rules, their violations and the lines of these; text, JSON and SARIF.
``subject``         The input of rules: resources, application, journal.
``application``     The Celery application in a function; ``probe`` reads it in a child process.
``physical_names``  The names that a template gives its resources.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from twolane_local.checks.lint import application
from twolane_local.checks.lint.findings import Finding, Rule, Severity, TemplateLines, Violation
from twolane_local.checks.lint.rules import RULES
from twolane_local.checks.lint.subject import function_specs, read_subject

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from twolane_local.checks.lint.subject import Subject
    from twolane_local.journal import Event

__all__ = ["RULES", "Finding", "Rule", "Severity", "Violation", "check", "lint"]


def lint(
    path: Path,
    parameters: Mapping[str, str],
    *,
    journal: Sequence[Event] = (),
    inline_budget_s: float = 2.0,
    ignore: Collection[str] = (),
    with_application: bool = True,
) -> list[Finding]:
    """Return the findings in a template, in the order of its lines; ``with_application=False``
    imports nothing. Raises ``TemplateError`` if SAM refuses it, ``HandlerImportError`` if code does
    not import.
    """
    subject = read_subject(path, parameters)
    specs = list(function_specs(subject)) if with_application else []
    subject = replace(
        subject,
        applications=application.load(specs),
        journal=tuple(journal),
        inline_budget_s=inline_budget_s,
    )
    return check(subject, ignore=ignore)


def check(subject: Subject, *, ignore: Collection[str] = ()) -> list[Finding]:
    """Return the findings in a subject; the template's file is read again for its lines."""
    lines = TemplateLines(subject.path)
    # A set: a queue that two functions read is checked twice and reported once.
    found = {
        Finding(
            rule=rule,
            severity=one.severity or rule.severity,
            resource=one.resource,
            message=one.message,
            fix=one.fix,
            path=one.file or subject.path,
            line=lines.of(one.resource, one.path) if one.file is None else one.line,
        )
        for rule in RULES
        if rule.id not in ignore
        for one in rule.check(subject)
        if not _is_excepted(subject, rule, one)
    }
    return sorted(found, key=lambda one: (str(one.path), one.line, one.rule.id, one.message))


def _is_excepted(subject: Subject, rule: Rule, found: Violation) -> bool:
    """Return whether the resource's own ``Metadata`` ignores the rule, with a reason."""
    resource = subject.resources.get(found.resource)
    own = (resource.metadata if resource else {}).get("twolane") or {}
    return bool((own.get("ignore") or {}).get(rule.id))
